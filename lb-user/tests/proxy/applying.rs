//! Other settings while the proxy serves: no connection ends by them. Some tests need root.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Empty;
use lb_user::config::model::{Action, PathMatch};
use lb_user::proxy::balance::Health;
use lb_user::proxy::balance::settings::State;
use lb_user::proxy::channel::ServerState;
use lb_user::proxy::snapshot::{Farm, Snapshot};
use lb_user::proxy::supervisor::ApplyError;

use crate::backend::Backend;
use crate::child::{Place, status_becomes};
use crate::client::{Client, header, request, text};
use crate::setup::{Identity, NAME, Running, eventually, nobody, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_applied_under_open_connections_and_a_bad_one_changes_nothing() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let mut running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut kept = Client::connect(running.address).await;
    assert_eq!(kept.who("/who").await, "a");
    let address = running.address;
    let in_flight = tokio::spawn(async move { Client::connect(address).await.who("/gate").await });
    eventually("a request waits", || a.state.waiting.load(Ordering::SeqCst) == 1).await;

    let mut broken = snapshot(&identity, running.address, &[b.address]);
    broken.sites[0].certificate = "no certificate".to_owned();
    assert!(running.proxy.apply(&broken, Vec::new()).is_err());
    assert_eq!(kept.who("/who").await, "a");

    let other = snapshot(&identity, running.address, &[b.address]);
    running.proxy.apply(&other, Vec::new()).unwrap();
    running.health_becomes(|health| health == [Health::Healthy]).await;
    assert_eq!(kept.who("/who").await, "b", "the same connection, the new configuration");
    a.state.gate.add_permits(1);
    assert_eq!(in_flight.await.unwrap(), "a", "what was in flight ends where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_a_server_that_stays_is_known_from_the_first_moment() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let mut running = Running::start(&identity, &[a.address], |_| {}).await;
    running.proxy.apply(&snapshot(&identity, running.address, &[b.address, a.address]), Vec::new()).unwrap();
    assert_eq!(running.proxy.health()[0][1], [Health::Healthy]);
    running.health_becomes(|health| health == [Health::Healthy; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_logged_on_stays_through_changes_and_ends_at_rest_with_its_server() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let mut running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut client = Client::connect(running.address).await;
    let mut log_on = request("GET", "/who", Empty::new());
    log_on.headers_mut().insert("authorization", "Negotiate YII".parse().unwrap());
    let response = client.send(log_on).await.unwrap();
    let connection = header(&response, "x-connection").to_owned();
    text(response).await;
    for _ in 0..3 {
        let mut other = snapshot(&identity, running.address, &[b.address, a.address]);
        other.limits.head_fields = 50;
        running.proxy.apply(&other, Vec::new()).unwrap();
        let response = client.get("/who").await;
        assert_eq!(header(&response, "x-connection"), connection);
        text(response).await;
        running.proxy.apply(&snapshot(&identity, running.address, &[a.address]), Vec::new()).unwrap();
    }
    assert!(!client.is_closed());
    running.proxy.apply(&snapshot(&identity, running.address, &[b.address]), Vec::new()).unwrap();
    eventually("the connection ends while it rests", || client.is_closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_child_applies_settings_with_new_and_without_old_addresses() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    let mut kept = Client::connect(place.address).await;
    text(kept.get("/who").await).await;
    let pid = supervisor.status().borrow().pid;
    let second = nobody();
    let mut both = place.snapshot();
    both.listen.push(second.into());
    both.sites[0].listen.push(second.into());
    supervisor.changer().apply(both.clone()).await.unwrap();
    assert_eq!(Client::connect(second).await.get("/who").await.status(), 200);
    assert_eq!(place.get().await, 200);
    let mut at_second = Client::connect(second).await;
    text(at_second.get("/who").await).await;
    let moved = |snapshot: &mut Snapshot| {
        snapshot.listen = vec![second.into()];
        snapshot.sites[0].listen = vec![second.into()];
    };
    let mut only_second = both;
    moved(&mut only_second);
    supervisor.changer().apply(only_second).await.unwrap();
    // Refused by the kernel, or accepted in the last moment and let go.
    let mut refused = || std::net::TcpStream::connect(place.address).is_err();
    eventually("nobody listens there", &mut refused).await;
    assert_eq!(at_second.get("/who").await.status(), 200);
    assert_eq!(kept.get("/who").await.status(), 421, "its address serves no site any more");
    let status = status_becomes(&supervisor, |status| status.ready).await;
    assert_eq!((status.pid, status.restarts), (pid, 0));
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_child_may_not_connect_to_is_named_and_another_worker_may() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    let mut kept = Client::connect(place.address).await;
    text(kept.get("/who").await).await;
    let old = supervisor.status().borrow().pid.unwrap();
    let address = place.address;
    let in_flight = tokio::spawn(async move { Client::connect(address).await.who("/gate").await });
    eventually("a request waits", || place.backend.state.waiting.load(Ordering::SeqCst) == 1).await;

    let another = Backend::start("b", &place.identity).await;
    let mut snapshot = place.snapshot();
    snapshot.farms[0].servers = crate::setup::servers(&[another.address]);
    match supervisor.changer().apply(snapshot.clone()).await {
        Err(ApplyError::Ports(ports)) => assert_eq!(ports, [another.address.port()]),
        // A kernel without Landlock keeps no port from it.
        other => panic!("{other:?}"),
    }
    assert_eq!(kept.who("/who").await, "a");

    supervisor.changer().replace(Some(snapshot)).await.unwrap();
    let status = status_becomes(&supervisor, |status| status.pid != Some(old)).await;
    assert_eq!(status.restarts, 0);
    // The old one may accept until it has heard of it.
    while Client::connect(place.address).await.who("/who").await != "b" {}
    let retiring = supervisor.status().borrow().retiring.clone().unwrap();
    assert_eq!(retiring.pid, old);
    place.backend.state.gate.add_permits(1);
    assert_eq!(in_flight.await.unwrap(), "a", "the old worker keeps its requests");
    status_becomes(&supervisor, |status| status.retiring.is_none()).await;
    eventually("its connections are gone", || kept.is_closed()).await;
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_workers_in_a_row_the_oldest_is_ended() {
    let place = Place::new().await;
    let mut supervisor = place.start().await;
    let mut news = supervisor.news().unwrap();
    let first = supervisor.status().borrow().pid.unwrap();
    let address = place.address;
    let held = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        client.send(request("GET", "/hang", Empty::new())).await.is_err()
    });
    let requests = |status: &lb_user::control::api::ProxyStatus| status.requests == 1;
    status_becomes(&supervisor, requests).await;
    for _ in 0..2 {
        supervisor.changer().replace(None).await.unwrap();
    }
    // The status follows: for a moment it may still show the one before.
    let another = |status: &lb_user::control::api::ProxyStatus| {
        status.retiring.as_ref().is_some_and(|retiring| retiring.pid != first)
    };
    status_becomes(&supervisor, another).await;
    assert!(held.await.unwrap(), "the oldest had to go, with its connection");
    let mut ended = None;
    while ended.is_none() {
        let said = tokio::time::timeout(Duration::from_secs(10), news.recv()).await.unwrap().unwrap();
        ended = (said.kind == "worker-ended").then_some(said);
    }
    let ended = ended.unwrap();
    assert!(
        ended.warning && ended.text.contains(&format!("worker {first} was ended with 1 ")),
        "{}",
        ended.text
    );
    assert_eq!(place.get().await, 200);
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_an_operator_disabled_gets_nothing_of_a_worker_that_comes_up() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    let disabled = Backend::start("b", &place.identity).await;
    let farm = snapshot(&place.identity, place.address, &[place.backend.address, disabled.address]);
    let server = farm.farms[0].servers[1].name.clone();
    let state = ServerState { farm: farm.farms[0].name.clone(), server, state: State::Disabled };
    supervisor.states().set(vec![state]);
    // It serves for a while before it takes over: of the other farm it finds no healthy server.
    let mut next = farm.clone();
    next.farms.push(Farm {
        name: "other".to_owned(),
        ..snapshot(&place.identity, place.address, &[nobody()]).farms[0].clone()
    });
    let mut route = next.sites[0].service.routes[0].clone();
    (route.path, route.action) = (PathMatch::Under("/other".to_owned()), Action::Farm(1));
    next.sites[0].service.routes.insert(0, route);
    let changer = supervisor.changer();
    let replaced = tokio::spawn(async move { changer.replace(Some(next)).await });
    let first = supervisor.status().borrow().pid;
    while !replaced.is_finished() {
        let mut client = Client::connect(place.address).await;
        assert_eq!(client.who("/who").await, "a");
    }
    replaced.await.unwrap().unwrap();
    assert_ne!(supervisor.status().borrow().pid, first);
    for _ in 0..20 {
        let mut client = Client::connect(place.address).await;
        assert_eq!(client.who("/who").await, "a");
    }
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_one_limit_on_connections() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    let mut snapshot = place.snapshot();
    snapshot.limits.connections = Some(3);
    supervisor.changer().apply(snapshot).await.unwrap();
    let address = place.address;
    let hold = || tokio::spawn(async move { Client::connect(address).await.get("/gate").await.status() });
    let held = [hold(), hold()];
    eventually("requests wait", || place.backend.state.waiting.load(Ordering::SeqCst) == 2).await;
    supervisor.changer().replace(None).await.unwrap();
    let knows = |status: &lb_user::control::api::ProxyStatus| {
        status.retiring.as_ref().is_some_and(|old| old.connections == 2)
    };
    status_becomes(&supervisor, knows).await;
    // Both have heard of it, and the old one accepts no more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The old worker has two of three: there is room for one in the new one.
    let mut first = Client::connect(place.address).await;
    assert_eq!(first.get("/who").await.status(), 200);
    let mut second = tokio::spawn(async move { Client::connect(address).await.get("/who").await.status() });
    let waits = tokio::time::timeout(Duration::from_secs(2), &mut second).await;
    assert!(waits.is_err(), "there is no room for it");
    place.backend.state.gate.add_permits(2);
    assert_eq!(second.await.unwrap(), 200, "the old one needs its places no more");
    for held in held {
        assert_eq!(held.await.unwrap(), 200);
    }
    status_becomes(&supervisor, |status| status.retiring.is_none()).await;
    supervisor.stop().await;
}
