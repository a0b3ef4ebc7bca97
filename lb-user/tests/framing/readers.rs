//! Servers that read what was forwarded, and say how many requests they find in it, and which.

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::lane::exchange;
use crate::program::{self, Program, find, free_doors, workspace};
use crate::strict::{self, Message, Request};

/// A running server.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    door: SocketAddrV4,
    _program: Program,
}

/// What a server read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) requests: Vec<Request>,
    /// Which status it ended the stream with, if it did not like it.
    pub(crate) refused: Option<String>,
}

impl Reader {
    /// nginx, apache, node and h11. The first two forward each request they read to a server that says what it was.
    pub(crate) async fn all() -> Vec<Self> {
        let [nginx, apache, node, h11] = free_doors();
        let behind = async || Backend::start(None, std::collections::BTreeMap::new()).await.address;
        vec![
            Self {
                name: "nginx",
                door: nginx,
                _program: program::nginx(&[(nginx, behind().await)], false).await,
            },
            Self { name: "apache", door: apache, _program: program::apache(apache, behind().await).await },
            Self { name: "node", door: node, _program: node_reader(node).await },
            Self { name: "h11", door: h11, _program: h11_reader(h11).await },
        ]
    }

    /// What it reads of a stream that then ends.
    pub(crate) async fn read(&self, stream: &[u8]) -> Reading {
        let answers = exchange(TcpStream::connect(self.door).await.unwrap(), stream, Duration::ZERO).await;
        let answers = strict::responses(&answers, false).messages;
        let answers = || answers.iter().filter(|answer| !answer.is_interim());
        Reading {
            requests: answers().filter_map(Message::read).collect(),
            refused: answers()
                .find(|answer| answer.read().is_none())
                .map(|answer| answer.status().to_owned()),
        }
    }

    /// Whether it serves such a request at all; to refuse one is no second reading.
    pub(crate) fn serves(&self, message: &Message) -> bool {
        let method = message.line[0].as_str();
        let expected: Vec<_> = message.values("expect").map(str::to_ascii_lowercase).collect();
        match self.name {
            // ngx_http_parse_request_line: capital letters, `_` and `-`. And Expect once.
            "nginx" => {
                let known =
                    method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-'));
                known && method != "TRACE" && expected.len() < 2
            }
            // An expectation that it does not know it cannot meet: 417 (RFC 9110, 10.1.1).
            "apache" => match &expected[..] {
                [] => true,
                [only] => only == "100-continue" || only.is_empty(),
                [_, _, ..] => false,
            },
            // `http.METHODS`.
            "node" => NODE_METHODS.contains(&method),
            _ => true,
        }
    }

    /// Whether it ends the connection after such a request, though it is whole. To hear no more is no second reading.
    pub(crate) fn leaves_after(&self, message: &Message) -> bool {
        match self.name {
            // ap_set_keepalive: a client that was never told to send a body may send one or not.
            "apache" => message.body == 0 && message.value("expect").is_some(),
            // What comes before the answer to who would speak another protocol may be that protocol. The proxy sends no more before
            // that answer; here all comes at once.
            "node" => message.value("upgrade").is_some(),
            _ => false,
        }
    }

    /// What it makes of a request that means this.
    pub(crate) fn takes(&self, mut request: Request) -> Request {
        if self.name == "apache" && request.target.starts_with("//") {
            // ap_parse_uri: several slashes at the start are one.
            request.target = format!("/{}", request.target.trim_start_matches('/'));
        }
        request
    }
}

/// Those that are sent here.
const NODE_METHODS: [&str; 8] = ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "TRACE", "M-SEARCH", "PROPFIND"];

/// h11 as a client, which reads responses.
pub(crate) struct Client {
    door: SocketAddrV4,
    _program: Program,
}

impl Client {
    pub(crate) async fn start() -> Self {
        let [door] = free_doors();
        let program = python("framing_client.py", door);
        Self { door, _program: Program::start("h11-client", &[door], |_| program).await }
    }

    /// What it reads of a stream of responses to a request with `method` and a GET: status and bytes of content of each whole one,
    /// interim ones left out.
    pub(crate) async fn read(&self, method: &str, stream: &[u8]) -> Vec<String> {
        let input = [method.as_bytes(), b"\n", stream].concat();
        let read = exchange(TcpStream::connect(self.door).await.unwrap(), &input, Duration::ZERO).await;
        String::from_utf8(read).unwrap().lines().map(str::to_owned).collect()
    }
}

async fn node_reader(door: SocketAddrV4) -> Program {
    Program::start("node", &[door], |_| {
        let mut command = Command::new(find("node"));
        command
            .arg(workspace().join("tests/node/framing_reader.js"))
            .args([door.ip().to_string(), door.port().to_string()]);
        command
    })
    .await
}

async fn h11_reader(door: SocketAddrV4) -> Program {
    Program::start("h11", &[door], |_| python("framing_reader.py", door)).await
}

fn python(program: &str, door: SocketAddrV4) -> Command {
    let mut command = Command::new(workspace().join("target/python/bin/python"));
    command
        .arg(workspace().join("tests/python").join(program))
        .args([door.ip().to_string(), door.port().to_string()]);
    command
}
