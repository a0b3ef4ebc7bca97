//! How connections end when the node gives its share up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lb_user::proxy::hold::Hold;

use crate::backend::Backend;
use crate::client::{Client, header, text};
use crate::setup::{Identity, NAME, Running, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_answered_whole_and_told_to_leave() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let address = running.address;
    let in_flight = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        let response = client.get("/gate").await;
        let leave = header(&response, "connection").to_owned();
        (leave, text(response).await)
    });
    eventually("a request waits", || a.state.waiting.load(Ordering::SeqCst) == 1).await;
    let mut drained = Box::pin(running.proxy.drain());
    assert!(futures_now(&mut drained).await.is_none(), "a request is in flight");
    a.state.gate.add_permits(1);
    assert_eq!(in_flight.await.unwrap(), ("close".to_owned(), "through".to_owned()));
    drained.await;
}

/// The future's value, if it has one by now.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(50), future).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_every_connection_is_served_once_more() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut kept = Client::connect(running.address).await;
    text(kept.get("/who").await).await;
    let mut silent = Client::connect(running.address).await;
    let mut resting = Client::connect(running.address).await;
    text(resting.get("/who").await).await;
    let drained = running.proxy.drain();
    for client in [&mut kept, &mut silent, &mut Client::connect(running.address).await] {
        let response = client.get("/who").await;
        assert_eq!((response.status().as_u16(), header(&response, "connection")), (200, "close"));
        text(response).await;
    }
    drained.await;
    eventually("idle connections end", || resting.is_closed() && kept.is_closed()).await;
    running.proxy.resume();
    let mut client = Client::connect(running.address).await;
    let response = client.get("/who").await;
    assert_eq!((response.status().as_u16(), header(&response, "connection")), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_drain_timeout_requests_are_cut() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let brief = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.drain_timeout = Duration::from_millis(200)
    };
    let mut running = Running::start(&identity, &[a.address], brief).await;
    let address = running.address;
    let in_flight = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        client.send(crate::client::request("GET", "/hang", http_body_util::Empty::new())).await.is_err()
    });
    eventually("a request is in flight", || running.proxy.load().requests() == 1).await;
    running.proxy.stop(true).await;
    assert!(in_flight.await.unwrap());
    assert_eq!(running.proxy.load().connections(), 0);
    assert_eq!(running.proxy.take_cut(), [(Hold::Other, 1)]);
    let line = running.logged(r#""path":"/hang""#).await;
    assert!(line.contains(r#""whole":false"#), "{line}");
    assert!(line.contains(r#""status":503,"cause":"drained""#), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_a_drain_cuts_keeps_its_status_in_the_log() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let brief = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.drain_timeout = Duration::from_millis(200)
    };
    let mut running = Running::start(&identity, &[a.address], brief).await;
    let mut cut = Client::connect(running.address).await;
    let response = cut.get("/zeros?1000000000").await;
    running.proxy.stop(true).await;
    drop(response);
    let line = running.logged(r#""path":"/zeros""#).await;
    assert!(line.contains(r#""status":200,"cause":"drained""#), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_is_told_by_kind_and_what_rests_is_none_of_it() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let brief = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.drain_timeout = Duration::from_millis(500)
    };
    let mut running = Running::start(&identity, &[a.address], brief).await;
    let address = running.address;
    let held = [
        ("POST", "/Microsoft-Server-ActiveSync?Cmd=Ping"),
        ("RPC_OUT_DATA", "/rpc/rpcproxy.dll"),
        ("POST", "/mapi/emsmdb/"),
    ];
    let hold = |(method, path): (&'static str, &'static str)| {
        tokio::spawn(async move {
            let request = crate::client::request(method, path, http_body_util::Empty::new());
            Client::connect(address).await.send(request).await.is_err()
        })
    };
    let _resting = Client::connect(running.address).await;
    a.state.hangs.store(true, Ordering::SeqCst);
    let held: Vec<_> = held.into_iter().map(hold).collect();
    eventually("requests are in flight", || running.proxy.load().requests() == 3).await;
    running.proxy.stop(true).await;
    for held in held {
        assert!(held.await.unwrap());
    }
    assert_eq!(running.proxy.take_cut(), [(Hold::ActiveSync, 1), (Hold::Mapi, 1), (Hold::RpcOut, 1)]);
    assert_eq!(running.proxy.take_cut(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_serves_those_that_wait_to_be_accepted() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let mut running = Running::start(&identity, &[a.address], |_| {}).await;
    let address = running.address;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            tokio::net::TcpStream::from_std(stream).unwrap()
        })
        .collect();
    let stopped = tokio::spawn(async move { running.proxy.stop(true).await });
    for stream in clients {
        let mut client = Client::over(stream).await;
        assert_eq!(client.get("/who").await.status(), 200);
    }
    stopped.await.unwrap();
}
