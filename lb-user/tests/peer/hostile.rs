//! Bytes that no node sends: the others are served meanwhile, and memory stays as it was.

use std::sync::Arc;
use std::time::Duration;

use lb_user::config::model::PEER_PORT;
use lb_user::peer::frame::Frame;
use lb_user::peer::message::Message;
use lb_user::peer::tls::Identity;
use lb_user::peer::{MAX_MESSAGE, Node};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::node::{LONG, Running, cluster, known, seed, start};

async fn connect(to: &Node) -> TcpStream {
    TcpStream::connect((to.address, PEER_PORT)).await.unwrap()
}

/// Somebody with the key of this number, let in.
async fn inside(number: u8, to: &Node) -> TlsStream<TcpStream> {
    let config = Identity::new(&seed(number)).unwrap().client(to.key, Arc::default()).unwrap();
    let name = ServerName::IpAddress(to.address.into());
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, connect(to).await).await.unwrap();
    stream.write_all(&Message::Ping { number: 1 }.into_frame().encode()).await.unwrap();
    let mut pong = [0; 13];
    stream.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong[..], Message::Pong { number: 1 }.into_frame().encode());
    stream
}

/// The head of a question of so many bytes, and none of those.
fn announcing(length: u32) -> Vec<u8> {
    let head = Message::Question { number: 1, bytes: Vec::new() }.into_frame().head();
    [&(length + 9).to_be_bytes()[..], &head[4..]].concat()
}

/// Waits for the other end to close.
async fn is_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin), what: &str) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "still open: {what}");
}

async fn talks(one: &Running) {
    assert_eq!(one.asks("n2").await, "n2 heard 5 bytes of n1");
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_nobody_waits_for_it() {
    let [one, two] = cluster().await;
    let mut streams = Vec::new();
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100], &[0x16, 3, 1, 0xff, 0xff], b"\x16\x03\x01", b""]
    {
        let mut stream = connect(&two.node).await;
        stream.write_all(bytes).await.unwrap();
        streams.push((stream, bytes));
    }
    talks(&one).await;
    for (mut stream, bytes) in streams {
        is_closed(&mut stream, &format!("{bytes:?}")).await;
    }
}

#[tokio::test]
async fn what_is_no_frame_ends_its_connection_alone() {
    let nodes = [known(1), known(2), known(3)];
    let (one, _two) = (start(1, &nodes[0], &nodes), start(2, &nodes[1], &nodes));
    let answer = Message::Answer { number: 1, bytes: vec![1] }.into_frame().encode();
    let unknown = Frame { kind: 99, number: 1, body: vec![] }.encode();
    for (bytes, what) in [
        (announcing(u32::MAX - 9), "4 GiB"),
        (announcing(u32::try_from(MAX_MESSAGE).unwrap() + 1), "a byte more than may be"),
        (vec![0; 40], "zeros"),
        (vec![0xff; 40], "ones"),
        (answer, "an answer to nothing"),
        (unknown, "an unknown kind"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "HTTP"),
    ] {
        let mut hostile = inside(3, &nodes[1]).await;
        hostile.write_all(&bytes).await.unwrap();
        is_closed(&mut hostile, what).await;
        talks(&one).await;
    }
}

#[tokio::test]
async fn half_a_frame_is_waited_for_ten_seconds() {
    let nodes = [known(1), known(2), known(3)];
    let (one, _two) = (start(1, &nodes[0], &nodes), start(2, &nodes[1], &nodes));
    let mut hostile = inside(3, &nodes[1]).await;
    hostile.write_all(&announcing(1000)[..9]).await.unwrap();
    talks(&one).await;
    is_closed(&mut hostile, "half a head").await;
}

#[tokio::test]
async fn what_is_announced_and_does_not_come_takes_no_memory() {
    let nodes: Vec<Node> = (1..=8).map(known).collect();
    let (one, two) = (start(1, &nodes[0], &nodes), start(2, &nodes[1], &nodes));
    talks(&one).await;
    let mut hostile = Vec::new();
    for number in 3..=8 {
        hostile.push(inside(number, &nodes[1]).await);
    }
    let before = two.memory("VmRSS");
    for stream in &mut hostile {
        stream.write_all(&announcing(u32::try_from(MAX_MESSAGE).unwrap())).await.unwrap();
        stream.write_all(&[0; 1000]).await.unwrap();
        stream.flush().await.unwrap();
    }
    // Short ones need no room of those.
    for _ in 0..20 {
        talks(&one).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = two.memory("VmRSS");
    assert!(after < before + (4 << 20), "{before} bytes, then {after}");
}

#[tokio::test]
async fn connections_from_one_address_are_few_and_a_node_gets_in_when_they_end() {
    let nodes = [known(1), known(2)];
    let two = start(2, &nodes[1], &nodes);
    two.status_becomes(|status| status.pid.is_some()).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(connect(&nodes[1]).await);
    }
    let mut ninth = connect(&nodes[1]).await;
    is_closed(&mut ninth, "a ninth connection").await;
    let one = start(1, &nodes[0], &nodes);
    one.reaches_all().await;
    talks(&one).await;
}
