//! What floods: each costs the connection, and until then no more than its bound.

use tokio::io::AsyncWriteExt as _;

use super::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame, literal,
};
use super::raw::{block, raw, raw_within};
use super::*;

/// RFC 9113, 7.
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let mut raw = raw().await;
    let mut flood = Vec::new();
    for stream in (1..2000).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[])));
        flood.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    // The proxy stops reading before all is written.
    drop(timeout(SECOND, raw.stream.write_all(&flood)).await);
    assert_eq!(raw.goaway().await, Some(ENHANCE_YOUR_CALM));
    raw.proxy.await.unwrap();
    let mut servers = 0;
    while raw.servers.try_recv().is_ok() {
        servers += 1;
    }
    assert!(servers <= 100, "{servers} server connections");
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_while_they_are_served_end_the_connection_too() {
    let mut raw = raw().await;
    for stream in (1..2000).step_by(2) {
        let sent =
            [frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[])), frame(PING, 1, 0, &[0; 8])];
        if raw.stream.write_all(&sent.concat()).await.is_err() {
            break;
        }
        // It is served by now.
        let server = timeout(SECOND / 100, raw.servers.recv()).await;
        if server.is_err()
            || raw.stream.write_all(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).await.is_err()
        {
            break;
        }
    }
    assert_eq!(raw.goaway().await, Some(ENHANCE_YOUR_CALM));
    raw.proxy.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_that_ask_for_nothing_but_an_answer_end_the_connection() {
    const PRIORITY: u8 = 2;
    const UNKNOWN: u8 = 77;
    for (kind, stream, payload) in
        [(PING, 0, &[0; 8][..]), (SETTINGS, 0, &[]), (PRIORITY, 1, &[0, 0, 0, 3, 1]), (UNKNOWN, 0, b"grease")]
    {
        let raw = raw().await;
        let (mut reader, mut writer) = tokio::io::split(raw.stream);
        let flood = frame(kind, 0, stream, payload).repeat(10_000);
        let sending = tokio::spawn(async move { writer.write_all(&flood).await });
        let mut seen = Vec::new();
        timeout(60 * SECOND, reader.read_to_end(&mut seen)).await.expect("it ends").unwrap();
        let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]);
        assert!(seen.ends_with(&goaway), "{kind}: {} bytes came", seen.len());
        assert!(seen.len() < 10_000, "{kind}: {} bytes came", seen.len());
        raw.proxy.await.unwrap();
        sending.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_ends_the_connection() {
    let mut raw = raw().await;
    raw.send(HEADERS, END_STREAM, 1, &block(&[])).await;
    let part = literal("x-more", "a".repeat(1000)).repeat(10);
    for _ in 0..1000 {
        if raw.stream.write_all(&frame(CONTINUATION, 0, 1, &part)).await.is_err() {
            break;
        }
    }
    assert!(raw.goaway().await.is_some_and(|code| code != 0));
    raw.proxy.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_long_gets_431_and_costs_nothing_else() {
    for (fields, length) in [(1, 70_000), (201, 10)] {
        let mut scene = scene().await;
        let mut ask = request(Method::GET, "/");
        for field in 0..fields {
            let name = http::HeaderName::from_bytes(format!("x-{field}").as_bytes()).unwrap();
            ask.headers_mut().insert(name, "a".repeat(length).parse().unwrap());
        }
        let (answer, _) = scene.send(ask, false).await;
        assert_eq!(answer.head().await.status(), 431, "{fields}");
        let answer = scene.get("/").await;
        let mut server = scene.server().await;
        say(&mut server, OK).await;
        assert_eq!(answer.whole().await.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_allowed_are_refused() {
    let mut raw = raw().await;
    let mut servers = Vec::new();
    for stream in 0..100 {
        raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &block(&[])).await;
        servers.push(timeout(SECOND, raw.servers.recv()).await.unwrap());
    }
    raw.send(HEADERS, END_HEADERS | END_STREAM, 201, &block(&[])).await;
    let (stream, code) = raw.next(RST_STREAM).await.unwrap();
    assert_eq!((stream, code.as_slice()), (201, &[0, 0, 0, 7][..]));
}

#[tokio::test(start_paused = true)]
async fn each_stream_beyond_the_first_takes_a_place_among_all_connections() {
    let room = Room::new(2, None);
    let mut raw = raw_within(Arc::clone(&room)).await;
    let mut servers = Vec::new();
    for stream in [1, 3, 5] {
        raw.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[])).await;
        servers.push(timeout(SECOND, raw.servers.recv()).await.unwrap().unwrap());
    }
    assert!(room.try_place().is_none());
    raw.send(HEADERS, END_HEADERS | END_STREAM, 7, &block(&[])).await;
    let (stream, code) = raw.next(RST_STREAM).await.unwrap();
    assert_eq!((stream, code.as_slice()), (7, &[0, 0, 0, 7][..]));
    for server in &mut servers {
        say(server, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        raw.next(HEADERS).await.unwrap();
    }
    sleep(SECOND).await;
    let free = [room.try_place(), room.try_place()];
    assert!(free.iter().all(Option::is_some), "no server connection rests");
}

#[tokio::test(start_paused = true)]
async fn streams_that_we_have_to_reset_end_the_connection() {
    let mut raw = raw().await;
    let mut flood = Vec::new();
    for stream in (1..1000).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("connection", "close")])));
    }
    drop(timeout(SECOND, raw.stream.write_all(&flood)).await);
    assert_eq!(raw.goaway().await, Some(ENHANCE_YOUR_CALM));
    raw.proxy.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn interim_answers_without_end_are_not_kept() {
    let mut raw = raw().await;
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[])).await;
    let mut server = raw.servers.recv().await.unwrap();
    say(&mut server, &"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n".repeat(1000)).await;
    say(&mut server, OK).await;
    let mut heads = 0;
    loop {
        let (_, head) = raw.next(HEADERS).await.unwrap();
        heads += 1;
        // 200, in the static table.
        if head[0] == 0x88 {
            break;
        }
    }
    assert_eq!(heads, 17);
}

#[tokio::test(start_paused = true)]
async fn who_greets_and_says_nothing_or_begins_a_head_and_does_not_end_it_is_let_go() {
    let mut raw = raw().await;
    let began = Instant::now();
    raw.send(HEADERS, END_STREAM, 1, &block(&[])).await;
    raw.proxy.await.unwrap();
    assert!((30..=32).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let Stage { shared, served, peer, .. } = stage();
    let (mut stream, ours) = duplex(1 << 10);
    let began = Instant::now();
    let proxy = tokio::spawn(connection::serve(ours, Owner::new(Arc::new(shared), served, peer), room()));
    stream.write_all(b"PRI * HT").await.unwrap();
    proxy.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 30);
}
