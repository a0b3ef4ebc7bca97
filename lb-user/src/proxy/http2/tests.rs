//! HTTP/2 connections over streams in memory, under time that stands still until all wait. Clients are the `h2` crate's; where
//! they would not do what is tried here, frames are written by hand (`raw`).

mod floods;
#[allow(dead_code, reason = "the framing tests' as well, which use more of it")]
mod frames;
mod identity;
mod raw;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::connection;
use crate::clock::Time;
use crate::proxy::listener::Phase;
use crate::proxy::room::Room;
use crate::proxy::session::Owner;
use crate::proxy::session::tests::{Log, NAME, Stage, expect, forwarded, say, stage, stage_with};

/// A client, and the servers' ends of its connections.
struct Scene {
    client: SendRequest<Bytes>,
    servers: mpsc::UnboundedReceiver<DuplexStream>,
    log: Log,
    phase: watch::Sender<Phase>,
    /// Ends with the proxy's side.
    proxy: JoinHandle<()>,
    /// Ends with the client's.
    connection: JoinHandle<Result<(), h2::Error>>,
}

const SECOND: Duration = Duration::from_secs(1);

/// As many streams and server connections as anybody wants.
fn room() -> Arc<Room> {
    Room::new(1000, None)
}

async fn scene() -> Scene {
    scene_within(room(), &mut h2::client::Builder::new()).await
}

async fn scene_within(room: Arc<Room>, client: &mut h2::client::Builder) -> Scene {
    scene_on(stage(), room, client).await
}

async fn scene_on(stage: Stage, room: Arc<Room>, client: &mut h2::client::Builder) -> Scene {
    let Stage { mut shared, served, peer, servers, log, .. } = stage;
    let (phase, seen) = watch::channel(Phase::Serving);
    shared.phase = seen;
    let (theirs, ours) = duplex(64 << 10);
    let proxy = tokio::spawn(connection::serve(ours, Owner::new(Arc::new(shared), served, peer), room));
    let (client, connection) = client.handshake(theirs).await.unwrap();
    let connection = tokio::spawn(connection);
    Scene { client, servers, log, phase, proxy, connection }
}

impl Scene {
    /// Sends a request's head; `more`: its body follows.
    async fn send(&mut self, request: Request<()>, more: bool) -> (Answer, SendStream<Bytes>) {
        let mut client = self.client.clone().ready().await.unwrap();
        let (answer, body) = client.send_request(request, !more).unwrap();
        (Answer(answer), body)
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(request(Method::GET, path), false).await.0
    }

    async fn server(&mut self) -> DuplexStream {
        timeout(SECOND, self.servers.recv()).await.expect("a server connection").unwrap()
    }

    async fn no_server(&mut self) {
        assert!(timeout(SECOND, self.servers.recv()).await.is_err(), "a server connection");
    }
}

struct Answer(h2::client::ResponseFuture);

impl Answer {
    async fn head(self) -> Response<RecvStream> {
        self.0.await.unwrap()
    }

    /// Status and content.
    async fn whole(self) -> (u16, String) {
        let (head, body) = self.head().await.into_parts();
        (head.status.as_u16(), content(body).await.unwrap().0)
    }

    async fn reset(self) -> Reason {
        self.0.await.expect_err("no response").reason().expect("a reset")
    }
}

/// All content of a body, and its trailers.
async fn content(mut body: RecvStream) -> Result<(String, HeaderMap), h2::Error> {
    let mut text = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len()).unwrap();
        text.extend_from_slice(&part);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok((String::from_utf8(text).unwrap(), trailers))
}

fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://{NAME}{path}")).body(()).unwrap()
}

/// What a server gets of a GET.
fn got(path: &str, lines: &str, number: u64) -> String {
    forwarded(&format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\n{lines}"), number)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn a_stream_is_served_as_a_request_of_http1_is() {
    let mut scene = scene().await;
    let mut ask = request(Method::GET, "/owa/?a=b");
    ask.headers_mut().insert("x-ab", "1".parse().unwrap());
    ask.headers_mut().insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    ask.headers_mut().append("cookie", "a=1".parse().unwrap());
    ask.headers_mut().append("cookie", "b=2; X-BEResource=s".parse().unwrap());
    let (answer, _) = scene.send(ask, false).await;
    let mut server = scene.server().await;
    expect(&mut server, &got("/owa/?a=b", "x-ab: 1\r\ncookie: a=1; b=2\r\n", 1)).await;
    say(&mut server, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nX-Ab: 2\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let head = answer.head().await;
    assert_eq!((head.status().as_u16(), &head.headers()["x-ab"]), (200, &"2".parse().unwrap()));
    assert!(!head.headers().contains_key("connection"));
    assert_eq!(content(head.into_body()).await.unwrap().0, "ok");
    let answer = scene.get("/owa/").await;
    expect(&mut server, &got("/owa/", "", 2)).await;
    say(&mut server, OK).await;
    assert_eq!(answer.whole().await, (200, "ok".to_owned()));
    let log = scene.log.text();
    assert!(
        log.lines().count() == 2
            && log.contains("\"path\":\"/owa/\"")
            && log.contains("\"server\":\"sbex1\""),
        "{log}"
    );
}

#[tokio::test(start_paused = true)]
async fn streams_at_the_same_time_have_server_connections_of_their_own_and_the_next_take_those() {
    let mut scene = scene().await;
    let mut waiting = Vec::new();
    for number in 0..10 {
        let answer = scene.get(&format!("/{number}")).await;
        let mut server = scene.server().await;
        expect(&mut server, &got(&format!("/{number}"), "", number + 1)).await;
        waiting.push((answer, server));
    }
    let mut servers = Vec::new();
    for (answer, mut server) in waiting.into_iter().rev() {
        say(&mut server, OK).await;
        assert_eq!(answer.whole().await.0, 200);
        servers.push(server);
    }
    // Six rest, the others have ended.
    let mut ended = 0;
    for server in &mut servers {
        ended += usize::from(timeout(SECOND, server.read_u8()).await.is_ok());
    }
    assert_eq!(ended, 4);
    for _ in 0..6 {
        scene.get("/again").await;
    }
    scene.no_server().await;
    scene.get("/one-more").await;
    scene.server().await;
}

#[tokio::test(start_paused = true)]
async fn both_bodies_move_at_once_and_trailers_cross() {
    let mut scene = scene().await;
    let (answer, mut up) = scene.send(request(Method::POST, "/ews/"), true).await;
    let mut server = scene.server().await;
    let lines = format!("POST /ews/ HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\n");
    expect(&mut server, &forwarded(&lines, 1)).await;
    say(&mut server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut down = answer.head().await.into_body();
    for _ in 0..3 {
        up.send_data(Bytes::from_static(b"abc"), false).unwrap();
        expect(&mut server, "3\r\nabc\r\n").await;
        say(&mut server, "2\r\nde\r\n").await;
        assert_eq!(down.data().await.unwrap().unwrap(), "de");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    trailers.insert("content-length", "9".parse().unwrap());
    up.send_trailers(trailers).unwrap();
    expect(&mut server, "0\r\nx-sum: 1\r\n\r\n").await;
    say(&mut server, "0\r\nX-Other: 2\r\n\r\n").await;
    let (rest, trailers) = content(down).await.unwrap();
    assert_eq!((rest.as_str(), &trailers["x-other"]), ("", &"2".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_body_of_a_length_stays_one() {
    let mut scene = scene().await;
    let mut ask = request(Method::POST, "/ews/");
    ask.headers_mut().insert("content-length", "6".parse().unwrap());
    let (answer, mut up) = scene.send(ask, true).await;
    let mut server = scene.server().await;
    let lines = format!("POST /ews/ HTTP/1.1\r\nHost: {NAME}\r\ncontent-length: 6\r\n");
    expect(&mut server, &forwarded(&lines, 1)).await;
    up.send_data(Bytes::from_static(b"abcdef"), true).unwrap();
    expect(&mut server, "abcdef").await;
    say(&mut server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let head = answer.head().await;
    assert_eq!(head.headers()["content-length"], "0");
    assert!(head.body().is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn content_that_does_not_fit_its_length_ends_its_server_connection() {
    for (sent, ends) in [("abcdefg", false), ("abc", true)] {
        let mut scene = scene().await;
        let mut ask = request(Method::POST, "/ews/");
        ask.headers_mut().insert("content-length", "6".parse().unwrap());
        let (answer, mut up) = scene.send(ask, true).await;
        let mut server = scene.server().await;
        up.send_data(Bytes::from_static(sent.as_bytes()), ends).unwrap();
        assert_eq!(answer.reset().await, Reason::PROTOCOL_ERROR);
        let mut seen = String::new();
        server.read_to_string(&mut seen).await.unwrap();
        assert!(
            seen.len()
                <= forwarded(&format!("POST /ews/ HTTP/1.1\r\nHost: {NAME}\r\ncontent-length: 6\r\n"), 1)
                    .len()
                    + 3,
            "{seen}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_waits_for_its_server_within_the_streams_window() {
    let mut scene = scene().await;
    let (_answer, mut up) = scene.send(request(Method::POST, "/ews/"), true).await;
    let _server = scene.server().await;
    let mut sent = 0;
    // What the server's side of the memory, one buffer and the window hold.
    let most = (64 << 10) + (16 << 10) + usize::try_from(super::STREAM_WINDOW).unwrap();
    loop {
        up.reserve_capacity(16 << 10);
        let granted = timeout(SECOND, std::future::poll_fn(|cx| up.poll_capacity(cx))).await;
        let Ok(granted) = granted else { break };
        let granted = granted.unwrap().unwrap();
        up.send_data(Bytes::from(vec![b'a'; granted]), false).unwrap();
        sent += granted;
        assert!(sent <= most, "{sent} bytes for a server that reads nothing");
    }
    assert!(sent >= 64 << 10, "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_its_server_back_and_no_other_stream() {
    let mut scene =
        scene_within(room(), h2::client::Builder::new().initial_connection_window_size(1 << 20)).await;
    let answer = scene.get("/big").await;
    let mut server = scene.server().await;
    say(&mut server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let _unread = answer.head().await.into_body();
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(4096));
    let said = timeout(SECOND, say(&mut server, &chunk.repeat(1000))).await;
    assert!(said.is_err(), "nothing holds what nobody reads");
    let answer = scene.get("/small").await;
    let mut another = scene.server().await;
    say(&mut another, OK).await;
    assert_eq!(answer.whole().await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_word_gets_it_and_an_early_answer_ends_nothing_else() {
    let mut scene = scene().await;
    let mut ask = request(Method::POST, "/ews/");
    ask.headers_mut().insert("expect", "100-continue".parse().unwrap());
    let (answer, mut up) = scene.send(ask, true).await;
    let mut server = scene.server().await;
    let lines = format!(
        "POST /ews/ HTTP/1.1\r\nHost: {NAME}\r\nexpect: 100-continue\r\nTransfer-Encoding: chunked\r\n"
    );
    expect(&mut server, &forwarded(&lines, 1)).await;
    let mut answer = answer.0;
    let told = std::future::poll_fn(|cx| answer.poll_informational(cx)).await;
    assert_eq!(told.unwrap().unwrap().status(), 100);
    say(&mut server, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, body) = answer.await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), content(body).await.unwrap().0), (403, "no".to_owned()));
    up.send_data(Bytes::from_static(b"abc"), true).unwrap();
    expect(&mut server, "3\r\nabc\r\n0\r\n\r\n").await;
    let answer = scene.get("/").await;
    expect(&mut server, &got("/", "", 2)).await;
    say(&mut server, OK).await;
    assert_eq!(answer.whole().await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_cut_off_is_reset() {
    for head in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut scene = scene().await;
        let answer = scene.get("/").await;
        let mut server = scene.server().await;
        say(&mut server, &format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
        let body = answer.head().await.into_body();
        drop(server);
        let cut = content(body).await.unwrap_err();
        assert_eq!(cut.reason(), Some(Reason::INTERNAL_ERROR), "{head}");
        assert!(scene.log.text().contains("\"whole\":false"), "{}", scene.log.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_resets_its_stream_ends_its_server_connection_and_no_other() {
    let mut scene = scene().await;
    let (waits, mut stays) = (scene.get("/1").await, scene.server().await);
    let (_, mut reset) = scene.send(request(Method::GET, "/2"), false).await;
    let mut server = scene.server().await;
    expect(&mut server, &got("/2", "", 2)).await;
    reset.send_reset(Reason::CANCEL);
    let ended = timeout(SECOND, server.read_u8()).await.expect("at once");
    assert!(ended.is_err());
    say(&mut stays, OK).await;
    assert_eq!(waits.whole().await.0, 200);
    let log = scene.log.text();
    let of_it = log.lines().find(|line| line.contains("\"path\":\"/2\""));
    assert!(of_it.is_some_and(|line| line.contains("\"status\":499")), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_another_site_or_of_none_gets_421_and_what_no_request_may_say_400() {
    for (uri, fields, status) in [
        ("https://other.example.test/", &[][..], 421),
        ("https://mail.example.test/", &[("host", "other.example.test")], 400),
        ("https://mail.example.test/", &[("host", "MAIL.example.test")], 0),
        ("https://user@mail.example.test/", &[], 400),
        ("https://mail.example.test/%2e%2e/x", &[], 400),
        ("https://mail.example.test/", &[("content_length", "5")], 400),
    ] {
        let mut scene = scene().await;
        let mut ask = Request::builder().uri(uri);
        for (name, value) in fields {
            ask = ask.header(*name, *value);
        }
        let (answer, _) = scene.send(ask.body(()).unwrap(), false).await;
        if status == 0 {
            scene.server().await;
        } else {
            assert_eq!(answer.whole().await.0, status, "{uri} {fields:?}");
            scene.no_server().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_site_says_of_every_answer_it_says_of_ours_over_http2_too() {
    let stage = stage_with(|snapshot| {
        let service = &mut snapshot.sites[0].service;
        service.hsts = Some(3600 * SECOND);
        service.edits.response.set.insert("X-Frame-Options".to_owned(), "DENY".to_owned());
    });
    let mut scene = scene_on(stage, room(), &mut h2::client::Builder::new()).await;
    let answer = scene.get("/").await;
    drop(scene.server().await);
    let ours = answer.head().await;
    assert_eq!(ours.status(), 502);
    assert_eq!(ours.headers()["strict-transport-security"], "max-age=3600");
    assert_eq!(ours.headers()["x-frame-options"], "DENY");
    let (other, _) = scene.send(Request::get("https://other.example.test/").body(()).unwrap(), false).await;
    let nobodys = other.head().await;
    assert_eq!(nobodys.status(), 421);
    assert!(
        nobodys
            .headers()
            .keys()
            .all(|name| !["strict-transport-security", "x-frame-options"].contains(&name.as_str()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_a_goaway_after_which_what_was_begun_ends() {
    let mut scene = scene().await;
    let answer = scene.get("/").await;
    let mut server = scene.server().await;
    scene.phase.send_replace(Phase::Draining { since: Time::now() });
    sleep(SECOND).await;
    let refused = scene.client.clone().ready().await;
    assert!(refused.is_err() || scene.client.send_request(request(Method::GET, "/"), true).is_err());
    sleep(60 * SECOND).await;
    say(&mut server, OK).await;
    assert_eq!(answer.whole().await, (200, "ok".to_owned()));
    timeout(5 * SECOND, scene.proxy).await.expect("it ends").unwrap();
    scene.connection.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_state_of_a_connection_has_its_own_time() {
    let mut scene = scene().await;
    let began = Instant::now();
    let answer = scene.get("/").await;
    let mut server = scene.server().await;
    sleep(59 * 60 * SECOND).await;
    say(&mut server, OK).await;
    assert_eq!(answer.whole().await.0, 200);
    scene.proxy.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 59 * 60 + 100);
    drop(server);
    let unused = self::scene().await;
    let began = Instant::now();
    unused.proxy.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_a_connection_at_rest_is_not_asked_over_it() {
    let mut scene = scene().await;
    let answer = scene.get("/").await;
    let mut server = scene.server().await;
    say(&mut server, OK).await;
    assert_eq!(answer.whole().await.0, 200);
    drop(server);
    let answer = scene.get("/2").await;
    let mut another = scene.server().await;
    expect(&mut another, &got("/2", "", 2)).await;
    say(&mut another, OK).await;
    assert_eq!(answer.whole().await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn head_and_what_has_no_content_end_with_their_head() {
    let mut scene = scene().await;
    let (answer, _) = scene.send(request(Method::HEAD, "/"), false).await;
    let mut server = scene.server().await;
    expect(&mut server, &forwarded(&format!("HEAD / HTTP/1.1\r\nHost: {NAME}\r\n"), 1)).await;
    say(&mut server, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let head = answer.head().await;
    assert!(head.body().is_end_stream());
    assert_eq!(head.headers()["content-length"], "5");
    let answer = scene.get("/").await;
    expect(&mut server, &got("/", "", 2)).await;
    say(&mut server, "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(answer.head().await.body().is_end_stream());
}
