//! What health tests, live traffic and operators mean for clients: which server is asked, for which of the routes.

use std::num::NonZeroU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lb_user::config::model::{HealthTest, PathMatch, Route};
use lb_user::proxy::balance::Health;
use lb_user::proxy::balance::monitor::LiveTraffic;
use lb_user::proxy::balance::settings::State;
use lb_user::proxy::channel::ServerState;
use lb_user::proxy::snapshot::Snapshot;

use crate::backend::Backend;
use crate::client::{Client, header};
use crate::setup::{Identity, NAME, Running, eventually, snapshot};

/// `/ews` has a test of its own, which asks for another page than the farm's.
fn ews_has_its_own_test(snapshot: &mut Snapshot) {
    let tests = &mut snapshot.farms[0].tests;
    let path = "/ews/healthcheck.htm".to_owned();
    tests.push(HealthTest { name: "ews".to_owned(), path, ..tests[0].clone() });
    let routes = &mut snapshot.sites[0].service.routes;
    let path = PathMatch::Under("/ews".to_owned());
    routes.insert(0, Route { path, test: Some("ews".to_owned()), ..routes[0].clone() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routes_test_takes_that_routes_requests_off_a_server_and_no_others() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let running = Running::start(&identity, &[a.address, b.address], ews_has_its_own_test).await;
    a.state.healthy.store(false, Ordering::SeqCst);
    running.health_becomes(|health| health == [Health::Unhealthy, Health::Healthy]).await;
    let (mut owa, mut ews) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut client = Client::connect(running.address).await;
        ews.push(client.who("/ews/x").await);
        owa.push(client.who("/owa/x").await);
    }
    assert_eq!(owa, ["b"; 4]);
    assert!(ews.contains(&"a".to_owned()) && ews.contains(&"b".to_owned()), "{ews:?}");
    let health = running.proxy.health();
    assert_eq!(health[0], [[Health::Unhealthy, Health::Healthy], [Health::Healthy, Health::Healthy]]);
}

/// The farm's test is made once in an hour, so that nothing but clients' requests tell of a server.
fn told_by_requests_alone(snapshot: &mut Snapshot, statuses: Option<&str>) {
    let test = &mut snapshot.farms[0].tests[0];
    test.interval = Duration::from_secs(3600);
    test.live_traffic = Some(LiveTraffic {
        failures: NonZeroU16::MIN.saturating_add(2),
        period: Duration::from_secs(600),
        statuses: statuses.map(|statuses| statuses.parse().unwrap()),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_connected_to_gets_no_more_requests_after_so_many() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let running =
        Running::start(&identity, &[a.address, b.address], |snapshot| told_by_requests_alone(snapshot, None))
            .await;
    a.refuse_connections().await;
    let health = || running.proxy.health()[0][0][0];
    for _ in 0..20 {
        if health() == Health::Unhealthy {
            break;
        }
        let mut client = Client::connect(running.address).await;
        let response = client.get("/who").await;
        assert_eq!((response.status().as_u16(), header(&response, "x-server")), (200, "b"));
    }
    assert_eq!(health(), Health::Unhealthy);
    let server = running.proxy.served().farms[0].group.balance.status(0);
    assert_eq!(server.counters.failed, 3, "each counted, and it was asked no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_count_as_failures_only_where_their_status_is_said_to() {
    let identity = Identity::new(&[NAME]);
    for (statuses, wanted) in [(None, Health::Healthy), (Some("401"), Health::Unhealthy)] {
        let a = Backend::start("a", &identity).await;
        let running =
            Running::start(&identity, &[a.address], |snapshot| told_by_requests_alone(snapshot, statuses))
                .await;
        for _ in 0..3 {
            let mut client = Client::connect(running.address).await;
            assert_eq!(client.get("/early").await.status(), 401);
        }
        eventually("the verdict", || running.proxy.health()[0][0][0] == wanted).await;
        let mut client = Client::connect(running.address).await;
        let status = client.get("/who").await.status().as_u16();
        assert_eq!(status, if wanted == Health::Healthy { 200 } else { 503 }, "{statuses:?}");
    }
}

/// Which servers answer so many new clients, in order of their names.
async fn answering(running: &Running, clients: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..clients {
        let mut client = Client::connect(running.address).await;
        names.push(client.who("/who").await);
    }
    names.sort();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_keeps_its_clients_and_a_disabled_one_none_whatever_configuration_comes() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let servers = [a.address, b.address];
    let mut running = Running::start(&identity, &servers, |_| ()).await;
    let mut client = Client::connect(running.address).await;
    while client.who("/who").await != "a" {
        client = Client::connect(running.address).await;
    }
    let given = |state| {
        let server = format!("port{}", a.address.port());
        vec![ServerState { farm: "exchange".to_owned(), server, state }]
    };
    running.proxy.set_states(given(State::Drain));
    assert_eq!(answering(&running, 4).await, ["b"]);
    assert_eq!(client.who("/who").await, "a");
    let mut other = snapshot(&identity, running.address, &servers);
    other.farms[0].connect_timeout = Duration::from_secs(19);
    running.proxy.apply(&other, Vec::new()).unwrap();
    assert_eq!(answering(&running, 4).await, ["b"], "another configuration is no operator");
    assert_eq!(client.who("/who").await, "a");
    running.proxy.set_states(given(State::Disabled));
    assert_eq!(client.who("/who").await, "b");
    running.proxy.set_states(Vec::new());
    assert_eq!(answering(&running, 4).await, ["a", "b"]);
}
