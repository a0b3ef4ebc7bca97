//! Every patience has an end, and memory one, too. Time is the runtime's own: nothing waits for real.

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::peer::message::{of_asked, of_node};

const PATIENCE: Patience = Patience { idle: Duration::from_secs(60), whole: Duration::from_secs(120) };

fn reader(from: DuplexStream) -> Reader<DuplexStream> {
    Reader::new(from, of_node, PATIENCE, Room::default())
}

fn question(length: usize) -> Vec<u8> {
    Message::Question { number: 1, bytes: vec![7; length] }.into_frame().encode()
}

/// What comes of `bytes` after which nothing follows, and how long that takes.
async fn after(bytes: &[u8]) -> (Why, u64) {
    let (near, mut far) = duplex(1 << 20);
    far.write_all(bytes).await.unwrap();
    let began = Instant::now();
    let mut reader = reader(near);
    let why = loop {
        if let Err(why) = reader.next().await {
            break why;
        }
    };
    (why, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_given_up_and_who_stops_within_a_frame_sooner() {
    let silent = Why::Unreachable(Trouble::Silent);
    let whole = question(100);
    for (bytes, seconds) in
        [(&[][..], 60), (&whole, 60), (&whole[..1], 10), (&whole[..13], 10), (&whole[..50], 10)]
    {
        assert_eq!(after(bytes).await, (silent, seconds), "{} bytes", bytes.len());
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_is_given_up_at_once() {
    let garbled = Why::Unreachable(Trouble::Garbled);
    let answer = Message::Answer { number: 1, bytes: vec![] }.into_frame().encode();
    let http = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for bytes in [&[0xff; 40][..], &[0; 40], http, &answer, &question(MAX_MESSAGE + 1)[..13]] {
        assert_eq!(after(bytes).await, (garbled, 0), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_drop_by_drop_has_to_be_whole_in_time() {
    let (near, mut far) = duplex(64);
    let began = Instant::now();
    let dripping = async {
        for byte in question(1000) {
            if far.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
    };
    let mut reader = reader(near);
    let reading = async {
        let why = reader.next().await.unwrap_err();
        drop(reader);
        (why, began.elapsed().as_secs())
    };
    let (came, ()) = tokio::join!(reading, dripping);
    assert_eq!(came, (Why::Unreachable(Trouble::Silent), 120));
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_given_up() {
    let (near, _far) = duplex(1024);
    let mut writer = Writer::<_, ()>::new(near);
    writer.put(Message::Answer { number: 1, bytes: vec![0; 1 << 20] }, None);
    let began = Instant::now();
    let why = loop {
        if let Err(why) = writer.step().await {
            break why;
        }
    };
    assert_eq!((why, began.elapsed().as_secs()), (Why::Unreachable(Trouble::Silent), 10));
}

#[tokio::test(start_paused = true)]
async fn messages_arrive_in_order_and_guards_go_once_theirs_is_written() {
    let (near, far) = duplex(1024);
    let (mut writer, mut reader) = (Writer::new(far), Reader::new(near, of_asked, PATIENCE, Room::default()));
    let guard = Arc::new(());
    let messages = [
        Message::Answer { number: 1, bytes: vec![1; 100_000] },
        Message::Refused { number: 2 },
        Message::Pong { number: 3 },
    ];
    writer.put(messages[0].clone(), Some(Arc::clone(&guard)));
    writer.put(messages[1].clone(), None);
    writer.put(messages[2].clone(), None);
    let mut came = Vec::new();
    while came.len() < 3 {
        tokio::select! {
            message = reader.next() => came.push(message.unwrap().0),
            step = writer.step() => step.unwrap(),
        }
        assert!(!came.is_empty() || Arc::strong_count(&guard) == 2 || writer.backlog() < 3);
    }
    assert_eq!(came, messages);
    assert_eq!(Arc::strong_count(&guard), 1);
}

#[tokio::test(start_paused = true)]
async fn so_many_long_messages_are_received_at_a_time_and_the_next_waits_for_room() {
    let room = Room::default();
    let mut held = Vec::new();
    let mut others = Vec::new();
    for _ in 0..MOST_LONG {
        let (near, mut far) = duplex(1 << 20);
        far.write_all(&question(MAX_MESSAGE)[..1000]).await.unwrap();
        let mut reader = Reader::new(near, of_node, PATIENCE, room.clone());
        assert!(timeout_at(Instant::now() + Duration::from_secs(1), reader.next()).await.is_err());
        held.push(reader);
        others.push(far);
    }
    assert_eq!(room.0.available_permits(), 0);
    let (near, far) = duplex(MAX_MESSAGE + 100);
    let (mut waiting, mut far) = (Reader::new(near, of_node, PATIENCE, room.clone()), far);
    far.write_all(&question(MAX_STRANGER + 1)).await.unwrap();
    assert!(timeout_at(Instant::now() + Duration::from_secs(5), waiting.next()).await.is_err());
    drop(held.pop());
    let (message, kept) = waiting.next().await.unwrap();
    assert_eq!(message, Message::Question { number: 1, bytes: vec![7; MAX_STRANGER + 1] });
    assert_eq!(kept.unwrap().num_permits(), 65);
}
