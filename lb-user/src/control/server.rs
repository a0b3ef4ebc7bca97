//! The agent's end of the control socket. It decides who may ask and how much a client may cost; what a request does is the
//! handler's. Dropping the future of `serve` ends every connection; dropping `Sockets` removes their files.

use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::api::{Answer, Permission, Request};
use super::{CONTROL_SOCKET, VIEW_SOCKET};

/// The longest request line, bytes.
const MAX_REQUEST: usize = 4096;

/// The longest life of a connection, the handler's time included, unless it answers in many lines. A client that needs more
/// for its request, or for any of these lines, is cut off.
const MAX_LIFE: Duration = Duration::from_secs(5);

/// How many connections each socket serves at once; further ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 16;

/// How long to wait after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets in the agent's run folder.
#[derive(Debug)]
pub struct Sockets {
    control: Door,
    view: Option<Door>,
}

impl Sockets {
    /// Makes them, in `run_dir` (made too, where it is missing). Within a tokio runtime. What a killed agent left is replaced;
    /// where an agent still listens, nothing is changed.
    pub fn bind(run_dir: &Path) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Bind { run_dir: run_dir.to_owned(), source };
        if super::client::answers(run_dir) {
            return Err(ControlError::Running { run_dir: run_dir.to_owned() });
        }
        fs::create_dir_all(run_dir).map_err(failed)?;
        let control = Door::make(run_dir.join(CONTROL_SOCKET), group("rollcall")).map_err(failed)?;
        let view = match group("rollcall-view") {
            Some(gid) => Some(Door::make(run_dir.join(VIEW_SOCKET), Some(gid)).map_err(failed)?),
            None => None,
        };
        Ok(Self { control, view })
    }

    /// The sockets in `run_dir` that the program before this one listened on; who asked meanwhile waits in their queues. Within a
    /// tokio runtime.
    pub fn take_up(run_dir: &Path, control: OwnedFd, view: Option<OwnedFd>) -> io::Result<Self> {
        let control = Door::take_up(run_dir.join(CONTROL_SOCKET), control)?;
        let view = view.map(|view| Door::take_up(run_dir.join(VIEW_SOCKET), view)).transpose()?;
        Ok(Self { control, view })
    }

    /// What `take_up` needs: the socket for changes, and the other one if there is one.
    pub fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.control.listener.as_fd(), self.view.as_ref().map(|view| view.listener.as_fd()))
    }
}

/// What a handler answers.
#[derive(Debug)]
pub enum Reply {
    /// One line.
    One(Answer),
    /// Many.
    Many(Lines),
}

/// Answers that come one after the other, until their sender is dropped.
#[derive(Debug)]
pub struct Lines {
    /// They come here. If the client is gone this end is dropped.
    pub answers: mpsc::Receiver<Answer>,
    /// Set when the client has ended its side: it wants what is to be said at the end, and no more.
    pub enough: watch::Sender<bool>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::One(answer)
    }
}

/// Removes the sockets that a killed agent left in `run_dir`.
pub fn remove_left(run_dir: &Path) -> io::Result<()> {
    for name in [CONTROL_SOCKET, VIEW_SOCKET] {
        match fs::remove_file(run_dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Answers requests for as long as it is polled. `handler` gets only requests that their sender may make.
pub async fn serve<H, F>(sockets: &Sockets, handler: H)
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    let control = accept(&sockets.control.listener, Permission::Change, handler.clone());
    match &sockets.view {
        Some(view) => {
            tokio::join!(control, accept(&view.listener, Permission::View, handler));
        }
        None => control.await,
    }
}

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Another agent has this folder. Nothing was changed.
    #[error("an agent is running with the run folder {run_dir} already; hint: stop it, or give this one its own `run_dir` in node.toml", run_dir = run_dir.display())]
    Running {
        /// The folder.
        run_dir: PathBuf,
    },
    /// The folder or a socket in it cannot be made.
    #[error("cannot make the control socket in {run_dir}; hint: `run_dir` in node.toml must be a folder that root can write, with a path of at most 90 bytes", run_dir = run_dir.display())]
    Bind {
        /// The folder.
        run_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

async fn accept<H, F>(listener: &UnixListener, permission: Permission, handler: H)
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output: Into<Reply>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let handler = handler.clone();
        connections.spawn(async move {
            let _place = place;
            // A client that is slow or gone is its own loss.
            let _ = converse(stream, permission, handler).await;
        });
    }
}

async fn converse<H, F>(stream: UnixStream, permission: Permission, handler: H) -> io::Result<()>
where
    H: Fn(Request) -> F,
    F: Future<Output: Into<Reply>>,
{
    let (mut reader, mut writer) = stream.into_split();
    let lines = timeout(MAX_LIFE, async {
        match reply(&mut reader, permission, handler).await? {
            Reply::One(answer) => write(&mut writer, &answer).await.map(|()| None),
            Reply::Many(lines) => Ok(Some(lines)),
        }
    });
    if let Some(lines) = lines.await.map_err(io::Error::other)?? {
        stream_out(reader, &mut writer, lines).await?;
    }
    timeout(MAX_LIFE, writer.shutdown()).await.map_err(io::Error::other)?
}

async fn reply<H, F>(reader: &mut OwnedReadHalf, permission: Permission, handler: H) -> io::Result<Reply>
where
    H: Fn(Request) -> F,
    F: Future<Output: Into<Reply>>,
{
    let peer = reader.as_ref().peer_cred()?;
    match request(reader, permission).await? {
        Ok(request) => {
            if request.needs() == Permission::Change {
                tracing::info!(uid = peer.uid(), pid = peer.pid(), ?request, "an operator asks for a change");
            }
            Ok(handler(request).await.into())
        }
        Err(text) => Ok(Reply::One(Answer::Error { text })),
    }
}

/// Writes one line after the other. A client that says or ends anything has had enough.
async fn stream_out(
    mut reader: OwnedReadHalf,
    writer: &mut OwnedWriteHalf,
    mut lines: Lines,
) -> io::Result<()> {
    let mut listening = true;
    let mut word = [0; 64];
    loop {
        tokio::select! {
            answer = lines.answers.recv() => match answer {
                Some(answer) => timeout(MAX_LIFE, write(writer, &answer)).await.map_err(io::Error::other)??,
                None => return Ok(()),
            },
            _ = reader.read(&mut word), if listening => {
                listening = false;
                lines.enough.send_replace(true);
            }
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// The request, or what is wrong with it.
async fn request(
    reader: impl tokio::io::AsyncRead + Unpin,
    permission: Permission,
) -> io::Result<Result<Request, String>> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST as u64 + 1));
    reader.read_until(b'\n', &mut line).await?;
    if line.len() > MAX_REQUEST {
        return Ok(Err(format!("the request is longer than {MAX_REQUEST} bytes")));
    }
    let request: Request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(error) => return Ok(Err(format!("not a request of this version: {error}"))),
    };
    if request.needs() > permission {
        return Ok(Err("members of rollcall-view may only look; hint: ask a member of rollcall".to_owned()));
    }
    Ok(Ok(request))
}

/// A listening socket and its file.
#[derive(Debug)]
struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Nobody can connect before `listen`, so the file has its owner and mode before anyone can use it.
    fn make(path: PathBuf, group: Option<u32>) -> io::Result<Self> {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        if let Some(group) = group {
            chown(&path, None, Some(group))?;
            fs::set_permissions(&path, Permissions::from_mode(0o660))?;
        }
        rustix::net::listen(&socket, 64)?;
        Self::take_up(path, socket)
    }

    fn take_up(path: PathBuf, socket: OwnedFd) -> io::Result<Self> {
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Self { listener, path })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Gone already, or the folder with it: either is what is wanted.
        let _ = fs::remove_file(&self.path);
    }
}

/// The number of the group `name`, if this host has it in `/etc/group`.
fn group(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}
