//! Requests and their answers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Frame;
use lb_user::proxy::balance::Health;
use lb_user::proxy::balance::hash::HashOf;
use lb_user::proxy::balance::settings::{Algorithm, State, Weight};
use lb_user::proxy::snapshot::{PrivateKey, Site};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::{Backend, count};
use crate::client::{Client, by_hand, header, request, status, text, tls};
use crate::setup::{Identity, NAME, Running, Zeros, eventually, listener, servers, to_farm};

#[tokio::test(flavor = "multi_thread")]
async fn connections_go_round_the_servers_and_stay_with_theirs() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let running = Running::start(&identity, &[a.address, b.address], |_| {}).await;
    let mut by_server: BTreeMap<String, usize> = BTreeMap::new();
    let mut server_connections = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect(running.address).await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let response = client.get("/who").await;
            seen.push((
                header(&response, "x-server").to_owned(),
                header(&response, "x-connection").to_owned(),
            ));
            text(response).await;
        }
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
        *by_server.entry(seen[0].0.clone()).or_default() += 1;
        server_connections.push(seen[0].clone());
    }
    assert_eq!(by_server, BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 3)]));
    server_connections.sort_unstable();
    server_connections.dedup();
    assert_eq!(server_connections.len(), 6, "no two clients share a server connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_a_farm_without_tls_are_tested_and_asked_in_clear() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start_in_clear("a").await;
    let clear = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.farms[0].verify = lb_user::proxy::snapshot::Verify::Clear;
    };
    let running = Running::start(&identity, &[a.address], clear).await;
    assert_eq!(running.proxy.health(), [[[Health::Healthy]]]);
    let mut client = Client::connect(running.address).await;
    let upload = request("POST", "/echo", Full::new(Bytes::from(vec![7; 100_000])));
    let response = client.send(upload).await.unwrap();
    assert_eq!(header(&response, "x-server"), "a");
    assert_eq!(count(response.into_body()).await, 100_000);
    // With TLS the same server is of no use.
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    assert_eq!(running.proxy.health(), [[[Health::Unhealthy]]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_get_their_weights_share_and_a_draining_one_no_new_client() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    for (weights, state, wanted) in [([300, 100], State::Active, (6, 2)), ([100, 100], State::Drain, (8, 0))]
    {
        let share = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
            let servers = &mut snapshot.farms[0].servers;
            for (server, weight) in servers.iter_mut().zip(weights) {
                server.share.weight = Weight::new(weight).unwrap();
            }
            servers[1].share.state = state;
        };
        let running = Running::start(&identity, &[a.address, b.address], share).await;
        let mut counts = (0, 0);
        for _ in 0..8 {
            match Client::connect(running.address).await.who("/who").await.as_str() {
                "a" => counts.0 += 1,
                _ => counts.1 += 1,
            }
        }
        assert_eq!(counts, wanted, "{weights:?} {state:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_affinity_cookie_brings_a_client_back_to_its_server() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let with_cookie = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.farms[0].balance.affinity_cookie = Some("Own".to_owned());
    };
    let running = Running::start(&identity, &[a.address, b.address], with_cookie).await;
    let first = Client::connect(running.address).await.get("/who").await;
    let (server, told) = (header(&first, "x-server").to_owned(), header(&first, "set-cookie").to_owned());
    let cookie = told.split(';').next().unwrap().to_owned();
    for _ in 0..5 {
        let mut again = request("GET", "/who", http_body_util::Empty::new());
        again.headers_mut().insert("cookie", cookie.parse().unwrap());
        let response = Client::connect(running.address).await.send(again).await.unwrap();
        assert_eq!(header(&response, "x-server"), server);
        assert_eq!(header(&response, "set-cookie"), "", "it is told once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_affinity_cookie_counts_over_a_connection_that_has_been_elsewhere_too() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let with_cookie = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.farms[0].balance.affinity_cookie = Some("Own".to_owned());
    };
    let running = Running::start(&identity, &[a.address, b.address], with_cookie).await;
    let mut both = BTreeMap::new();
    while both.len() < 2 {
        let mut client = Client::connect(running.address).await;
        let first = client.get("/who").await;
        let cookie = header(&first, "set-cookie").split(';').next().unwrap().to_owned();
        let server = header(&first, "x-server").to_owned();
        text(first).await;
        both.insert(server, (client, cookie));
    }
    let cookies: Vec<_> = both.iter().map(|(server, (_, cookie))| (server.clone(), cookie.clone())).collect();
    for (client, _) in both.values_mut() {
        for (server, cookie) in cookies.iter().chain(&cookies) {
            let mut again = request("GET", "/who", http_body_util::Empty::new());
            again.headers_mut().insert("cookie", cookie.parse().unwrap());
            let response = client.send(again).await.unwrap();
            assert_eq!(header(&response, "x-server"), server);
            assert_eq!(header(&response, "set-cookie"), "", "it is told once");
            text(response).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hashed_decides_over_each_request_of_a_connection() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let by_query = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.farms[0].balance.algorithm = Algorithm::Hash(HashOf::Query(vec!["user".to_owned()]));
    };
    let running = Running::start(&identity, &[a.address, b.address], by_query).await;
    let users = 0..8;
    let mut alone = BTreeMap::new();
    for user in users.clone() {
        let server = Client::connect(running.address).await.who(&format!("/who?user={user}")).await;
        alone.insert(user, server);
    }
    assert!(alone.values().any(|server| server == "a") && alone.values().any(|server| server == "b"));
    let mut client = Client::connect(running.address).await;
    for user in users.clone().chain(users) {
        assert_eq!(client.who(&format!("/who?user={user}")).await, alone[&user], "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_a_servers_limit_of_connections_requests_wait_their_turn() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let limit = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.farms[0].servers[0].share.connections = std::num::NonZeroU32::new(1);
        snapshot.farms[0].balance.queue.timeout = Duration::from_secs(60);
    };
    let running = Running::start(&identity, &[a.address], limit).await;
    let mut first = Client::connect(running.address).await;
    text(first.get("/who").await).await;
    let address = running.address;
    let second = tokio::spawn(async move { Client::connect(address).await.get("/who").await.status() });
    eventually("the second waits", || running.proxy.waiting() == [1]).await;
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unhealthy_server_gets_nothing_until_it_heals() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    let running = Running::start(&identity, &[a.address, b.address], |_| {}).await;
    let mut kept = Client::connect(running.address).await;
    let first = kept.get("/who").await;
    let (down, up, at) = match header(&first, "x-server") {
        "a" => (&a, "b", 0),
        _ => (&b, "a", 1),
    };
    text(first).await;
    down.state.healthy.store(false, Ordering::SeqCst);
    running.health_becomes(|health| health[at] == Health::Unhealthy).await;
    assert_eq!(kept.who("/who").await, up, "the kept connection moves, too");
    for _ in 0..4 {
        let mut client = Client::connect(running.address).await;
        assert_eq!(client.who("/who").await, up);
    }
    down.state.healthy.store(true, Ordering::SeqCst);
    running.health_becomes(|health| health[at] == Health::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_connections_costs_no_request() {
    let identity = Identity::new(&[NAME]);
    let (a, b) = (Backend::start("a", &identity).await, Backend::start("b", &identity).await);
    // Tests that never come again: the proxy does not know.
    let slow = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.farms[0].tests[0].interval = Duration::from_secs(3600);
    };
    let running = Running::start(&identity, &[a.address, b.address], slow).await;
    a.refuse_connections().await;
    for _ in 0..4 {
        let mut client = Client::connect(running.address).await;
        let response = client.send(request("POST", "/echo", Full::from("whole"))).await.unwrap();
        assert_eq!(header(&response, "x-server"), "b");
        assert_eq!(text(response).await, "whole");
    }
    b.refuse_connections().await;
    let mut client = Client::connect(running.address).await;
    assert_eq!(client.get("/who").await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_the_client_whose_next_request_is_served_too() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut client = Client::connect(running.address).await;
    for round in 0..3 {
        // The backend answers before it read the body, and then closes.
        let response = client.send(request("POST", "/early", Zeros::new(2 << 20))).await.unwrap();
        assert_eq!(response.status(), 401, "round {round}");
        assert_eq!(text(response).await, "log on first");
        let response = client.send(request("POST", "/echo", Full::from("again"))).await.unwrap();
        assert_eq!(text(response).await, "again", "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_with_503_without_a_healthy_server() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    a.state.healthy.store(false, Ordering::SeqCst);
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut client = Client::connect(running.address).await;
    let response = client.send(request("POST", "/echo", Zeros::new(5 << 20))).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(text(response).await, "503 Service Unavailable\n");
    assert_eq!(client.get("/who").await.status(), 503, "the connection lives on");
    let line = running.logged(r#""path":"/echo""#).await;
    assert!(line.contains(r#""status":503"#) && !line.contains(r#""server":"#), "{line}");
}

/// A phone that gives its Ping up and asks again must not leave the old one to wait for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn who_ends_its_side_may_wait_for_an_answer_and_who_hangs_up_is_not_waited_for() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut client = tls(running.address, NAME).await;
    client.write_all(b"GET /hang HTTP/1.1\r\nHost: mail.example.test\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    eventually("it is asked", || running.proxy.load().requests() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(running.proxy.load().requests(), 1, "it ended only its side");
    client.get_ref().0.set_zero_linger().unwrap();
    drop(client);
    let line = running.logged(r#""path":"/hang""#).await;
    assert!(line.contains(r#""status":499"#), "{line}");
    assert_eq!(running.proxy.load().requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_is_given_up_with_504() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let hasty = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.sites[0].service = crate::setup::to_farm(2);
    };
    let running = Running::start(&identity, &[a.address], hasty).await;
    let mut client = Client::connect(running.address).await;
    assert_eq!(client.get("/hang").await.status(), 504);
    // An upload that moves is no silence, however long it takes.
    let frames = async_frames(8, Duration::from_millis(400));
    let response = client.send(request("POST", "/count", frames)).await.unwrap();
    assert_eq!(text(response).await, (8 * 1000).to_string());
}

fn async_frames(
    frames: usize,
    pause: Duration,
) -> impl hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + Sync {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        for _ in 0..frames {
            tokio::time::sleep(pause).await;
            sender.send(Bytes::from_static(&[0; 1000])).await.ok();
        }
    });
    FromChannel(receiver)
}

/// A chunked body from a channel.
struct FromChannel(tokio::sync::mpsc::Receiver<Bytes>);

impl hyper::body::Body for FromChannel {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_certificate_is_no_server() {
    let (ours, theirs) = (Identity::new(&[NAME]), Identity::new(&[NAME]));
    let a = Backend::start("a", &theirs).await;
    let running = Running::start(&ours, &[a.address], |snapshot| {
        snapshot.farms[0].tests[0].thresholds.failures = std::num::NonZeroU8::MIN;
    })
    .await;
    assert_eq!(running.proxy.health(), [[[Health::Unhealthy]]]);
    let mut client = Client::connect(running.address).await;
    assert_eq!(client.get("/who").await.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_served_gets_421() {
    let (mail, www) = (Identity::new(&[NAME]), Identity::new(&["www.example.test"]));
    let a = Backend::start("a", &mail).await;
    let two_sites = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        snapshot.sites.push(Site {
            names: vec!["www.example.test".to_owned()],
            certificate: www.certificate.clone(),
            key: PrivateKey::new(www.key.clone()),
            ..snapshot.sites[0].clone()
        });
    };
    let running = Running::start(&mail, &[a.address], two_sites).await;
    for (sni, host, wanted) in [
        (NAME, NAME, "200"),
        (NAME, "MAIL.example.test:443", "200"),
        (NAME, "www.example.test", "421"),
        (NAME, "unknown.example.test", "421"),
        ("www.example.test", NAME, "421"),
        ("unknown.example.test", NAME, "421"),
        ("unknown.example.test", "unknown.example.test", "421"),
        ("127.0.0.1", "127.0.0.1", "421"),
        ("127.0.0.1", NAME, "200"),
    ] {
        let mut stream = tls(running.address, sni).await;
        let request = format!("GET /who HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer).await);
        assert_eq!(status(&answer), wanted, "{sni} {host}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_serves_the_names_of_its_domain_that_are_no_other_sites() {
    let identity = Identity::new(&[NAME, "*.example.test"]);
    let (all, one) = (Backend::start("all", &identity).await, Backend::start("one", &identity).await);
    let wildcard_and_exact = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| {
        let mut farm = snapshot.farms[0].clone();
        (farm.name, farm.servers) = ("one".to_owned(), servers(&[one.address]));
        snapshot.farms.push(farm);
        snapshot.sites[0].names.push("*.example.test".to_owned());
        let service = to_farm(60).try_map(|_| Ok::<_, ()>(1)).unwrap();
        let names = vec!["exact.example.test".to_owned()];
        snapshot.sites.push(Site { names, service, ..snapshot.sites[0].clone() });
    };
    let running = Running::start(&identity, &[all.address], wildcard_and_exact).await;
    for (name, wanted) in [
        (NAME, "all"),
        ("a.example.test", "all"),
        ("b.example.test", "all"),
        ("exact.example.test", "one"),
        ("a.b.example.test", "421"),
        ("example.test", "421"),
    ] {
        let mut stream = tls(running.address, name).await;
        let request = format!("GET /who HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer).await);
        let server = answer.lines().find_map(|line| line.strip_prefix("x-server: "));
        assert_eq!(server.unwrap_or(status(&answer)), wanted, "{name}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_sees_the_clients_request_and_who_sent_it() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let answer = by_hand(
        running.address,
        b"RPC_IN_DATA /rpc/rpcproxy.dll?sbex1:6001 HTTP/1.1\r\nHost: mail.example.test\r\nX-Forwarded-For: 6.6.6.6\r\n\
          X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nAuthorization: Negotiate AA\r\n\
          Connection: close, authorization\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert_eq!(status(&answer), "200");
    assert!(answer.contains("RPC_IN_DATA /rpc/rpcproxy.dll?sbex1:6001"), "{answer}");
    for seen in [
        "\"host\": \"mail.example.test\"",
        "\"x-forwarded-for\": \"127.0.0.1\"",
        "\"x-forwarded-proto\": \"https\"",
        "\"authorization\": ",
        "\"content-length\": \"0\"",
    ] {
        assert!(answer.contains(seen), "{seen} in {answer}");
    }
    for unseen in ["6.6.6.6", "evil", "keep-alive"] {
        assert!(!answer.contains(unseen), "{unseen} in {answer}");
    }
    let line = running.logged(r#""method":"RPC_IN_DATA""#).await;
    assert!(
        line.contains(r#""client":"127.0.0.1""#) && line.contains(r#""path":"/rpc/rpcproxy.dll""#),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_go_both_ways_frame_by_frame() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    const LENGTH: u64 = 50 << 20;
    let mut client = Client::connect(running.address).await;
    let response = client.get(&format!("/zeros?{LENGTH}")).await;
    assert_eq!(header(&response, "content-length"), LENGTH.to_string());
    assert_eq!(count(response.into_body()).await, LENGTH);
    let response = client.send(request("POST", "/count", Zeros::new(LENGTH))).await.unwrap();
    assert_eq!(text(response).await, LENGTH.to_string());
    let response = client.send(request("POST", "/echo", Zeros::new(LENGTH))).await.unwrap();
    assert_eq!(count(response.into_body()).await, LENGTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_piece_arrives_before_the_next_is_sent() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut client = Client::connect(running.address).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut response = client.send(request("POST", "/echo", FromChannel(receiver))).await.unwrap();
    for piece in ["PROCESSING", "PENDING", "DONE"] {
        sender.send(Bytes::from(piece)).await.unwrap();
        let frame = response.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(response.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_stops_the_writer() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    const LENGTH: u64 = 256 << 20;
    let mut client = Client::connect(running.address).await;
    let body = Zeros::new(LENGTH);
    let made = body.made();
    // The echo comes back as fast as it is sent; nobody reads it, so it all comes to a stand.
    let response = client.send(request("POST", "/echo", body)).await.unwrap();
    let mut before = u64::MAX;
    while made.load(Ordering::SeqCst) != before {
        before = made.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < 64 << 20, "{before} bytes are somewhere in between");
    assert_eq!(count(response.into_body()).await, LENGTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let answer = by_hand(
        running.address,
        b"GET /one HTTP/1.1\r\nHost: mail.example.test\r\n\r\n\
          POST /echo HTTP/1.1\r\nHost: mail.example.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n\
          HEAD /three HTTP/1.1\r\nHost: mail.example.test\r\n\r\n\
          GET /four HTTP/1.1\r\nHost: mail.example.test\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 4, "{answer}");
    let at = |text: &str| answer.find(text).unwrap_or_else(|| panic!("{text} in {answer}"));
    assert!(at("GET /one") < at("two") && at("two") < at("GET /four"));
    assert!(!answer.contains("HEAD /three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_proxy_does_not_do_is_refused_in_a_word() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    for (request, wanted) in [
        ("CONNECT mail.example.test:443 HTTP/1.1\r\nHost: mail.example.test:443\r\n", "501"),
        ("GET / HTTP/1.1\r\nHost: mail.example.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n", "200"),
        ("GET / HTTP/1.1\r\nHost: mail.example.test\r\nHost: mail.example.test\r\n", "400"),
        ("GET / HTTP/1.1\r\n", "400"),
        ("GET https://other.example.test/ HTTP/1.1\r\nHost: mail.example.test\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: mail.example.test\r\nTransfer-Encoding: identity, chunked\r\n", "400"),
        ("GET https://mail.example.test/absolute HTTP/1.1\r\nHost: mail.example.test\r\n", "200"),
    ] {
        let answer = by_hand(
            running.address,
            format!("{request}X-Last: 1\r\nConnection: close\r\n\r\n0\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(status(&answer), wanted, "{request}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_harms_nobody_but_its_sender() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let running = Running::start(&identity, &[a.address], |_| {}).await;
    let mut kept = Client::connect(running.address).await;
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut garbage = [0; 600];
    for round in 0..60 {
        for byte in &mut garbage {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            *byte = noise as u8;
        }
        if round % 2 == 0 {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            garbage[..3].copy_from_slice(&[22, 3, 1]);
            drop(stream.write_all(&garbage).await);
        } else {
            let mut stream = tls(running.address, NAME).await;
            drop(stream.write_all(if round % 3 == 0 { b"GET / HTTP/9.9\r\n\r\n" } else { &garbage }).await);
        }
    }
    let long =
        format!("GET / HTTP/1.1\r\nHost: mail.example.test\r\nX-Long: {}\r\n\r\n", "a".repeat(200 << 10));
    assert_eq!(status(&by_hand(running.address, long.as_bytes()).await), "431");
    assert_eq!(kept.get("/who").await.status(), 200);
    drop(kept);
    eventually("all connections end", || running.proxy.load().connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_connections_wait_instead_of_failing() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let (socket, address) = listener();
    let snapshot = crate::setup::snapshot(&identity, address, &[a.address]);
    let log = lb_user::proxy::access::AccessLog::start(std::io::sink()).unwrap();
    let proxy = lb_user::proxy::service::Proxy::start(&snapshot, vec![socket], log, 2).unwrap();
    let (mut one, two) = (Client::connect(address).await, Client::connect(address).await);
    text(one.get("/who").await).await;
    let third = tokio::spawn(async move { Client::connect(address).await.get("/who").await.status() });
    eventually("two are open", || proxy.load().connections() == 2).await;
    assert!(!third.is_finished());
    drop(two);
    assert_eq!(third.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_too_many_connections_is_refused_more() {
    let identity = Identity::new(&[NAME]);
    let a = Backend::start("a", &identity).await;
    let two = |snapshot: &mut lb_user::proxy::snapshot::Snapshot| snapshot.limits.connections_per_client = 2;
    let running = Running::start(&identity, &[a.address], two).await;
    let (mut one, two) = (Client::connect(running.address).await, Client::connect(running.address).await);
    let mut third = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap_or(0), 0, "it ends without a word");
    assert_eq!(one.get("/who").await.status(), 200);
    drop(two);
    eventually("one has ended", || running.proxy.load().connections() == 1).await;
    assert_eq!(Client::connect(running.address).await.get("/who").await.status(), 200);
}
