//! Connections that rest, over streams in memory under paused time.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const HERE: Place = Place { farm: 0, server: 1, site: 2 };

/// A connection, and its server's end.
fn connection() -> (Link<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    (Link::new(ours), theirs)
}

async fn is_closed(server: &mut DuplexStream) -> bool {
    server.read(&mut [0]).await.unwrap() == 0
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_handed_out_once_for_its_own_place_and_the_freshest_first() {
    let idle = Idle::default();
    let ((first, mut older), (second, mut newer)) = (connection(), connection());
    idle.put(HERE, first);
    idle.put(HERE, second);
    for other in [Place { farm: 1, ..HERE }, Place { server: 0, ..HERE }, Place { site: 0, ..HERE }] {
        assert!(idle.take(other).await.is_none(), "{other:?}");
    }
    let mut handed_out = Vec::new();
    for server in [&mut newer, &mut older] {
        let mut link = idle.take(HERE).await.unwrap();
        link.head().extend_from_slice(b"x");
        poll_fn(|cx| link.poll_flush(cx)).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        handed_out.push(link);
    }
    assert!(idle.take(HERE).await.is_none() && idle.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_or_speaks_unasked_is_thrown_away() {
    let idle = Idle::default();
    let ((good, _server), (ended, gone), (speaks, mut talker)) = (connection(), connection(), connection());
    for link in [good, ended, speaks] {
        idle.put(HERE, link);
    }
    drop(gone);
    talker.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await.unwrap();
    assert_eq!(idle.len(), 3);
    let taken = idle.take(HERE).await.unwrap();
    assert!(is_closed(&mut talker).await, "it was thrown away");
    assert!(idle.is_empty());
    drop(taken);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_goes_by_itself() {
    let idle = Idle::default();
    let ((first, mut server), (second, gone)) = (connection(), connection());
    idle.put(HERE, first);
    idle.put(HERE, second);
    drop(gone);
    sleep(TENDED_EVERY * 2).await;
    assert_eq!(idle.len(), 1, "the one that has ended is gone");
    let began = Instant::now();
    assert!(is_closed(&mut server).await);
    assert!(began.elapsed() <= LONGEST_REST && idle.is_empty());
    // And again, after there was none.
    let (third, mut server) = connection();
    idle.put(HERE, third);
    assert!(is_closed(&mut server).await && idle.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_outlives_the_configuration() {
    let idle = Idle::default();
    let (link, mut server) = connection();
    idle.put(HERE, link);
    drop(idle);
    assert!(is_closed(&mut server).await);
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_than_the_most() {
    let idle = Idle::default();
    let mut servers = Vec::new();
    let mut put = |place| {
        let (link, server) = connection();
        idle.put(place, link);
        servers.push(server);
    };
    (0..MOST_OF_A_PLACE + 5).for_each(|_| put(HERE));
    assert_eq!(idle.len(), MOST_OF_A_PLACE);
    (0..MOST + 5).for_each(|site| put(Place { site: site + 10, ..HERE }));
    assert_eq!(idle.len(), MOST);
    idle.make_room(0, 0);
    assert_eq!(idle.len(), MOST, "that server has none");
    // The oldest of any site: the sixth that was put, as five had to go before.
    idle.make_room(0, 1);
    assert_eq!(idle.len(), MOST - 1);
    assert!(is_closed(&mut servers[5]).await);
    while idle.take(HERE).await.is_some() {}
    assert_eq!(idle.len(), MOST - MOST_OF_A_PLACE);
}
