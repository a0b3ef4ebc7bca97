//! Proxies with a recording server behind each, and what is seen at both ends when something is sent.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lb_user::proxy::snapshot::Snapshot;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::backend::Backend;
use crate::client;
use crate::corpus::responses::Answer;
use crate::program::{self, Program};
use crate::setup::{Identity, NAME, Running, eventually, to_farm};
use crate::strict;

/// A kind of proxy, several times, so that as many cases are tried at once.
pub(crate) struct Subject {
    lanes: Vec<Arc<Lane>>,
    _program: Option<Program>,
}

/// A proxy and its server.
struct Lane {
    address: SocketAddrV4,
    backend: Backend,
    /// Ours, which is spoken to over TLS and has a log; others are plain.
    ours: Option<Running>,
}

/// What was seen of one case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// What the client got before the connection ended.
    pub(crate) client: Vec<u8>,
    /// What the server got, by connection.
    pub(crate) server: Vec<Vec<u8>>,
    /// Our log's lines about it.
    pub(crate) log: Vec<String>,
}

type Script = BTreeMap<String, Answer>;

impl Subject {
    pub(crate) async fn ours(script: &Script) -> Self {
        let identity = Identity::new(&[NAME]);
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            let backend = Backend::start(Some(identity.acceptor()), script.clone()).await;
            let patience = |snapshot: &mut Snapshot| {
                snapshot.farms[0].tests[0].interval = Duration::from_secs(3600);
                snapshot.sites[0].service = to_farm(1);
            };
            let running = Running::start(&identity, &[backend.address], patience).await;
            lanes.push(Lane { address: running.address, backend, ours: Some(running) });
        }
        Self::of(lanes, None)
    }

    pub(crate) async fn nginx(script: &Script) -> Self {
        let (lanes, routes) = plain_lanes(script).await;
        Self::of(lanes, Some(program::nginx(&routes, false).await))
    }

    pub(crate) async fn haproxy(script: &Script) -> Self {
        let (lanes, routes) = plain_lanes(script).await;
        Self::of(lanes, Some(program::haproxy(&routes, false).await))
    }

    /// A proxy that understands nothing and forwards everything.
    pub(crate) async fn relay(script: &Script) -> Self {
        let (lanes, routes) = plain_lanes(script).await;
        for (door, server) in routes {
            let listener = TcpListener::bind(door).await.unwrap();
            tokio::spawn(async move {
                loop {
                    let (mut client, _) = listener.accept().await.unwrap();
                    tokio::spawn(async move {
                        let mut server = TcpStream::connect(server).await.unwrap();
                        // Either side may be gone first.
                        tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                    });
                }
            });
        }
        Self::of(lanes, None)
    }

    fn of(lanes: Vec<Lane>, program: Option<Program>) -> Self {
        Self { lanes: lanes.into_iter().map(Arc::new).collect(), _program: program }
    }

    /// Sends each of `inputs` over a connection of its own; what was seen, in their order.
    pub(crate) async fn send_all(&self, inputs: Vec<Vec<u8>>) -> Vec<Seen> {
        let (inputs, next) = (Arc::new(inputs), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for lane in &self.lanes {
            let (lane, inputs, next) = (Arc::clone(lane), Arc::clone(&inputs), Arc::clone(&next));
            tasks.spawn(async move {
                let mut all = Vec::new();
                while let Some((number, input)) = take(&next, &inputs) {
                    all.push((number, lane.send(input).await));
                }
                all
            });
        }
        let mut all: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        all.sort_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, seen)| seen).collect()
    }
}

fn take<'a>(next: &AtomicUsize, inputs: &'a [Vec<u8>]) -> Option<(usize, &'a [u8])> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    inputs.get(number).map(|input| (number, input.as_slice()))
}

async fn plain_lanes(script: &Script) -> (Vec<Lane>, Vec<(SocketAddrV4, SocketAddrV4)>) {
    let mut lanes = Vec::new();
    for address in program::free_doors::<LANES>() {
        let backend = Backend::start(None, script.clone()).await;
        lanes.push(Lane { address, backend, ours: None });
    }
    let routes = lanes.iter().map(|lane| (lane.address, lane.backend.address)).collect();
    (lanes, routes)
}

impl Lane {
    async fn send(&self, input: &[u8]) -> Seen {
        let client = match &self.ours {
            Some(_) => exchange(client::tls(self.address, NAME).await, input, PATIENCE).await,
            None => exchange(TcpStream::connect(self.address).await.unwrap(), input, PATIENCE).await,
        };
        let mut seen = Seen { client, server: self.backend.take().await, log: Vec::new() };
        if let Some(running) = &self.ours {
            for id in seen.request_ids() {
                let line = || about(&running.log.text(), &id);
                eventually("a request is logged", || line().is_some()).await;
                seen.log.extend(line());
            }
        }
        seen
    }
}

/// The line of a log about a request.
fn about(log: &str, id: &str) -> Option<String> {
    log.lines().find(|line| is_about(line, id)).map(str::to_owned)
}

/// Whether a line of a log is about a request.
pub(crate) fn is_about(line: &str, id: &str) -> bool {
    line.contains(&format!("\"id\":\"{id}\""))
}

impl Seen {
    /// Of requests that were forwarded, and of those that were answered by the proxy itself.
    fn request_ids(&self) -> Vec<String> {
        let id = |message: &strict::Message| message.value("x-request-id").map(str::to_owned);
        let forwarded = self.server.iter().flat_map(|stream| strict::requests(stream).messages);
        let answered = strict::responses(&self.client, false).messages;
        forwarded.chain(answered).filter_map(|message| id(&message)).collect()
    }
}

/// Sends all, says after `patience` that no more comes, and reads to the end.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite>(
    stream: S,
    input: &[u8],
    patience: Duration,
) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut output = Vec::new();
    let write = async {
        // Whoever refuses the beginning need not read the rest.
        writer.write_all(input).await.ok();
        tokio::time::sleep(patience).await;
        writer.shutdown().await.ok();
        std::future::pending::<()>().await;
    };
    let read = async {
        // An end without a goodbye is an end, too.
        reader.read_to_end(&mut output).await.ok();
    };
    tokio::select! {
        () = write => {}
        read = tokio::time::timeout(LONGEST, read) => read.expect("the connection ends"),
    }
    output
}

const LANES: usize = 4;

/// How long a client waits for what has not come before it says that it is done. Some proxies would leave its requests unanswered
/// if it said so at once.
const PATIENCE: Duration = Duration::from_millis(200);

/// Far above all time limits of the programs here.
const LONGEST: Duration = Duration::from_secs(60);
