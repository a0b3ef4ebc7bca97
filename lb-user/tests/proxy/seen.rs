//! What the operator sees: every answer that the proxy makes itself has its cause in the log, in the counters and in what is remembered
//! of the request, and its page says nothing. The real child, asked as the agent asks it.

use std::net::SocketAddrV4;
use std::num::NonZeroU32;
use std::time::Duration;

use http_body_util::Empty;
use lb_user::config::model::{Action, Bounds, PathMatch, Route};
use lb_user::proxy::access::{Format, LogSettings};
use lb_user::proxy::protect::rate::Quota;
use lb_user::proxy::snapshot::Snapshot;
use lb_user::proxy::supervisor::{ApplyError, Spec, Supervisor, question, take_listeners};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::backend::Backend;
use crate::child::{Place, status_becomes};
use crate::client::{Client, header, request, text};
use crate::setup::{Identity, NAME, Zeros, eventually, nobody};

/// Path, status and cause of each answer.
const CAUSES: [(&str, u16, &str); 8] = [
    ("/none", 503, "no_healthy_server"),
    ("/connect", 502, "connect_failed"),
    ("/tls", 502, "server_tls"),
    ("/closed", 502, "server_closed"),
    ("/hang", 504, "timeout"),
    ("/limit", 413, "limit"),
    ("/refused", 403, "refused"),
    ("/unknown", 421, "unknown_host"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_proxys_own_has_its_cause_wherever_the_operator_looks() {
    let place = Place::new().await;
    let scene = Scene::start(&place).await;
    for (path, status, cause) in CAUSES {
        let response = ask(place.address, path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let id = header(&response, "x-request-id").to_owned();
        let page = text(response).await;
        let [code, ..] = page.split(' ').collect::<Vec<_>>()[..] else { panic!("{page}") };
        assert_eq!(code, status.to_string());
        for inside in ["exchange", "127.0.0.1", cause] {
            assert!(!page.contains(inside), "{page}");
        }
        let line = logged(&place, &id).await;
        assert_eq!((&line["cause"], &line["status"]), (&Value::from(cause), &Value::from(status)), "{line}");
        let recalled = question::request(&place.run_dir, id.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((recalled.cause.as_str(), recalled.status), (cause, status));
        assert_eq!(Value::from(recalled.path), line["path"]);
        let why = if path == "/refused" { Value::from("it is refused") } else { Value::Null };
        assert_eq!(line["why"], why, "{line}");
    }
    let ok = ask(place.address, "/who").await;
    assert_eq!(ok.status(), 200);
    let metrics = question::metrics(&place.run_dir).await.unwrap();
    for (_, _, cause) in CAUSES {
        let site = if cause == "unknown_host" { "" } else { NAME };
        has(&metrics, &format!("own_answers_total{{site=\"{site}\",cause=\"{cause}\"}} 1"));
    }
    for sample in [
        "server_failures_total{farm=\"connect\",server=\"only\",cause=\"connect_failed\"} 1",
        "server_failures_total{farm=\"tls\",server=\"only\",cause=\"server_tls\"} 1",
        "server_failures_total{farm=\"closed\",server=\"only\",cause=\"server_closed\"} 1",
        "requests_total{site=\"mail.example.test\",route=\"/none\",code=\"5xx\"} 1",
        "requests_total{site=\"mail.example.test\",route=\"/\",code=\"2xx\"} 1",
        "server_healthy{farm=\"none\",server=\"only\"} 0",
        "server_healthy{farm=\"connect\",server=\"only\"} 1",
        "accepted_connections_total 9",
        "handshake_seconds_count{resumed=\"false\"} 9",
    ] {
        has(&metrics, sample);
    }
    assert!(
        question::request(&place.run_dir, "0000000000000000-1".parse().unwrap()).await.unwrap().is_none()
    );
    scene.supervisor.stop().await;
    assert!(!place.run_dir.join("questions.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_back_and_the_operator_why() {
    let place = Place::new().await;
    let mut spec = place.spec(take_listeners(&place.run_dir, &[place.address.into()]).unwrap());
    let (requests, per) = (NonZeroU32::MIN, Duration::from_secs(3600));
    spec.snapshot.sites[0].service.rates.general = Some(Quota { requests, per, burst: requests });
    let supervisor = Supervisor::start(spec).unwrap();
    status_becomes(&supervisor, |status| status.servers.iter().any(|server| server.healthy)).await;
    assert_eq!(ask(place.address, "/who").await.status(), 200);
    let refused = ask(place.address, "/who").await;
    assert_eq!(refused.status(), 429);
    let seconds: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((3500..=3600).contains(&seconds), "{seconds}");
    let line = logged(&place, header(&refused, "x-request-id")).await;
    for (key, wanted) in [
        ("status", Value::from(429)),
        ("cause", Value::from("limit")),
        ("why", Value::from("the client asks too often")),
        ("server", Value::Null),
    ] {
        assert_eq!(line[key], wanted, "{line}");
    }
    let metrics = question::metrics(&place.run_dir).await.unwrap();
    has(&metrics, &format!("own_answers_total{{site=\"{NAME}\",cause=\"limit\"}} 1"));
    has(&metrics, &format!("rate_refused_total{{site=\"{NAME}\",class=\"general\"}} 1"));
    supervisor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_as_iis_writes_it_has_its_header_and_a_field_for_each_name() {
    let place = Place::new().await;
    let mut spec = place.spec(take_listeners(&place.run_dir, &[place.address.into()]).unwrap());
    spec.snapshot.log = LogSettings { format: Format::W3c, ..LogSettings::default() };
    let supervisor = Supervisor::start(spec).unwrap();
    status_becomes(&supervisor, |status| status.ready).await;
    ask(place.address, "/who?token=geheim").await;
    supervisor.stop().await;
    let log = std::fs::read_to_string(place.run_dir.join("access.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let [_, _, _, fields, line] = lines[..] else { panic!("{log}") };
    let fields: Vec<&str> = fields.strip_prefix("#Fields: ").unwrap().split(' ').collect();
    let values: Vec<&str> = line.split(' ').collect();
    assert_eq!(fields.len(), values.len(), "{log}");
    let value = |name: &str| values[fields.iter().position(|field| *field == name).unwrap()];
    for (name, wanted) in [
        ("cs-method", "GET"),
        ("cs-uri-stem", "/who"),
        ("cs-uri-query", "token=***"),
        ("c-ip", "127.0.0.1"),
        ("sc-status", "200"),
        ("x-tls-version", "TLSv1.3"),
        ("x-tls-resumed", "0"),
        ("x-farm", "exchange"),
        ("x-cause", "-"),
    ] {
        assert_eq!(value(name), wanted, "{name} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_changes_nothing_of_the_log() {
    let place = Place::new().await;
    let supervisor = place.start().await;
    status_becomes(&supervisor, |status| status.ready).await;
    let mut refused = place.snapshot();
    refused.log = LogSettings { format: Format::W3c, ..LogSettings::default() };
    refused.sites[0].certificate = "none".to_owned();
    assert!(matches!(supervisor.changer().apply(refused).await, Err(ApplyError::Settings)));
    ask(place.address, "/who").await;
    supervisor.stop().await;
    let log = std::fs::read_to_string(place.run_dir.join("access.log")).unwrap();
    assert!(log.starts_with('{') && log.lines().count() == 1, "{log}");
}

/// The sample is there.
fn has(metrics: &str, sample: &str) {
    let sample = format!("rollcall_proxy_{sample}");
    assert!(metrics.lines().any(|line| line == sample), "{sample} in {metrics}");
}

async fn ask(address: SocketAddrV4, path: &str) -> hyper::Response<hyper::body::Incoming> {
    let mut client = Client::connect(address).await;
    let mut request = match path {
        "/limit" => request("POST", path, Zeros::new(4096)),
        _ => request("GET", path, Empty::new()),
    };
    if path == "/unknown" {
        request.headers_mut().insert("host", "other.example.test".parse().unwrap());
    }
    client.send(request).await.unwrap()
}

/// The log's line of a request.
async fn logged(place: &Place, id: &str) -> Value {
    let log = place.run_dir.join("access.log");
    let line = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().find(|line| line.contains(id)).map(|line| serde_json::from_str(line).unwrap())
    };
    eventually("a request is logged", || line().is_some()).await;
    line().unwrap()
}

/// A proxy whose farms fail each in its way, once it believes that they are healthy.
struct Scene {
    supervisor: Supervisor,
}

impl Scene {
    async fn start(place: &Place) -> Self {
        let mut servers = vec![("none", nobody())];
        let mut dying = Vec::new();
        for name in ["connect", "tls", "closed"] {
            let backend = Backend::start(name, &place.identity).await;
            servers.push((name, backend.address));
            dying.push(backend);
        }
        let listeners = take_listeners(&place.run_dir, &[place.address.into()]).unwrap();
        let mut spec: Spec = place.spec(listeners);
        arrange(&mut spec.snapshot, &servers);
        let supervisor = Supervisor::start(spec).unwrap();
        let healthy = |name: &'static str| {
            move |status: &lb_user::control::api::ProxyStatus| {
                status.servers.iter().any(|server| server.farm == name && server.healthy)
            }
        };
        for name in ["exchange", "connect", "tls", "closed"] {
            status_becomes(&supervisor, healthy(name)).await;
        }
        for (backend, (name, address)) in dying.into_iter().zip(servers.into_iter().skip(1)) {
            backend.refuse_connections().await;
            match name {
                "tls" => greet(address, Identity::new(&["another.example.test"])).await,
                "closed" => {
                    let (certificate, key) = (&place.identity.certificate, &place.identity.key);
                    greet(address, Identity { certificate: certificate.clone(), key: key.clone() }).await;
                }
                _ => {}
            }
        }
        Self { supervisor }
    }
}

/// Greets whoever connects, and says no more.
async fn greet(address: SocketAddrV4, identity: Identity) {
    let listener = TcpListener::bind(address).await.unwrap();
    let acceptor = identity.acceptor();
    tokio::spawn(async move {
        loop {
            let (stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(stream).await);
        }
    });
}

/// A farm and a route for each of `servers`, which are tested once, and routes that refuse and limit.
fn arrange(snapshot: &mut Snapshot, servers: &[(&str, SocketAddrV4)]) {
    let usual = snapshot.sites[0].service.routes[0].clone();
    let bounds = Bounds { silence: Duration::from_millis(500), body: 1024, ..Bounds::default() };
    let route = |path: &str, action| Route {
        path: PathMatch::Under(path.to_owned()),
        action,
        bounds,
        ..usual.clone()
    };
    let mut routes = vec![
        route("/refused", Action::Refuse { why: "it is refused".to_owned() }),
        route("/limit", Action::Farm(0)),
        route("/hang", Action::Farm(0)),
    ];
    for (name, address) in servers {
        let mut farm = snapshot.farms[0].clone();
        farm.name = (*name).to_owned();
        (farm.servers[0].name, farm.servers[0].address) = ("only".to_owned(), *address);
        farm.tests[0].interval = Duration::from_secs(3600);
        farm.tests[0].thresholds.failures = std::num::NonZeroU8::MIN;
        routes.push(route(&format!("/{name}"), Action::Farm(snapshot.farms.len())));
        snapshot.farms.push(farm);
    }
    routes.push(route("/", Action::Farm(0)));
    snapshot.sites[0].service.routes = routes;
}
