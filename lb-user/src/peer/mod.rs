//! node -> TLS -> frame -> node: how the nodes of a cluster talk to each other.
//!
//! What they say is the agents' own (opaque bytes here); `rollcall peer`, a child under a user of its own, carries it. It holds this
//! node's transport key and nothing else that is secret, so one that was taken over can speak as its node, but sign nothing and read
//! nothing that is sealed.
//!
//! - [`frame`], [`message`]: what nodes send each other inside TLS, as bytes; pure;
//! - [`channel`]: what agent and child send each other, as bytes; pure;
//! - [`doors`]: who may come in, and how much may be asked; pure;
//! - [`tls`]: TLS 1.3 with raw public keys, which are those that the configuration lists;
//! - [`stream`], [`talk`]: frames of a stream, and with patience;
//! - [`inbound`], [`outbound`]: connections that came in, and that go out;
//! - [`worker`]: the child; [`supervisor`]: the agent's side of it.
//!
//! A connection carries questions one way and their answers back; two nodes that ask each other have two. Each question has exactly
//! one answer, or an error that says why there is none.

pub mod channel;
pub mod doors;
pub mod frame;
pub mod inbound;
pub mod message;
pub mod outbound;
pub mod stream;
pub mod supervisor;
pub mod talk;
pub mod tls;
pub mod worker;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::shared::keys::VerifyingKey;

/// A node that is talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name: at most [`MAX_NAME`] bytes.
    pub name: String,
    /// Where it listens, on TCP port `PEER_PORT`.
    pub address: Ipv4Addr,
    /// By which it proves itself.
    pub key: VerifyingKey,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({})", self.name, self.address)
    }
}

/// How long another node's kernel may take to acknowledge what it was sent. A host that is gone acknowledges nothing: without this an
/// operator whose change it was asked about would wait for as long as for one that thinks.
const UNACKNOWLEDGED: Duration = Duration::from_secs(4);

/// Pieces are whole, so that nothing is gained by waiting for more; and a host that is gone is noticed.
pub(crate) fn prepare(stream: &TcpStream) {
    // Without either it works, too.
    drop(stream.set_nodelay(true));
    drop(socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
}

/// Longest question or answer between nodes, and longest answer to a stranger, bytes: the longest generation and more.
pub const MAX_MESSAGE: usize = 17 << 20;

/// Longest question of a stranger, bytes.
pub const MAX_STRANGER: usize = 64 << 10;

/// Most questions of one node that may be unanswered.
pub const MOST_OF_NODE: usize = 4;

/// Most questions of strangers that may be unanswered, of all of them together.
pub const MOST_OF_STRANGERS: usize = 2;

/// Longest name of a node, bytes.
pub const MAX_NAME: usize = 255;

/// Most nodes that are listed: there are 64 host priorities.
pub const MOST_NODES: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_host_that_is_gone_is_not_waited_for_as_one_that_thinks() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&stream);
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        assert!(stream.nodelay().unwrap());
    }
}
