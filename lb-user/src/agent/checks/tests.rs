//! What works, by owner table; and each kind of test against a real service.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::config::model::{CheckKind, Farm, HealthTest, Site, Verify};
use crate::control::api::ServerStatus;

const FILE: &str = "[cluster]\nip = \"192.168.50.8/24\"\nmode = \"multicast\"\n\
    [[node]]\nname = \"arr1\"\naddress = \"192.168.50.6\"\npriority = 1\n\
    [[rule]]\nports = 25\ncheck = { tcp = true, failures = 2 }\n\
    [[rule]]\nports = 26\ncheck = { tcp = true, port = 25, failures = 2 }\n\
    [[rule]]\nports = 443\n[[rule]]\nports = 8080\n";

/// Tables: 0 the default host's, 1 tcp 25, 2 tcp 26 with the same check, 3 tcp 443 with the proxy, 4 tcp 8080.
fn services() -> Services {
    let mut config = config(FILE);
    config.cluster.sites.push(Site {
        names: vec!["mail.example.test".to_owned()],
        listen: vec!["192.168.50.8:443".parse().unwrap()],
        certificate: "/nonexistent/mail.crt".into(),
        key: "/nonexistent/mail.key".into(),
        redirect: Vec::new(),
        tls: Default::default(),
        service: crate::config::model::Service::to_farm("exchange", crate::config::model::Bounds::default()),
    });
    config.cluster.farms = vec![farm("exchange"), farm("of-no-site")];
    let plan = Plan::new(&config, [1, 2]);
    let told = Services::known_at_start(&config, &plan);
    assert_eq!(
        told,
        [true, false, false, false, true],
        "the default host's and unchecked rules need nothing"
    );
    Services::new(&config, &plan, told)
}

fn config(text: &str) -> Config {
    let thread = std::thread::current().id();
    let file = std::env::temp_dir().join(format!("rollcall-checks-{}-{thread:?}", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let config = crate::config::load_for(&file, None).unwrap();
    std::fs::remove_file(file).unwrap();
    config
}

fn farm(name: &str) -> Farm {
    let second = Duration::from_secs(1);
    Farm {
        name: name.to_owned(),
        servers: Vec::new(),
        balance: Default::default(),
        min_servers: 2,
        verify: Verify::Nothing,
        tests: vec![HealthTest::plain("mail.example.test")],
        connect_timeout: second,
        reuse: Default::default(),
    }
}

fn proxy(healthy: [bool; 3]) -> ProxyStatus {
    let server = |healthy| ServerStatus { farm: "exchange".to_owned(), healthy, ..ServerStatus::default() };
    let servers = healthy.map(server).into();
    ProxyStatus { alive: true, ready: true, servers, ..ProxyStatus::default() }
}

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

#[test]
fn a_failing_test_concerns_the_rules_that_have_it_and_no_other() {
    let mut services = services();
    assert_eq!(services.checks().count(), 1, "the same test is run once");
    assert_eq!(services.news(), None);
    services.handle_outcome(0, Ok(()));
    assert_eq!(services.news(), Some(vec![true, true, true, false, true]));
    services.handle_outcome(0, Err("cannot connect".to_owned()));
    assert_eq!(services.news(), None, "once is not enough");
    services.handle_outcome(0, Err("cannot connect".to_owned()));
    assert_eq!(services.news(), Some(vec![true, false, false, false, true]));
    assert_eq!(services.news(), None, "what was told is no news");
    let sentence = services.sentence(1, false);
    assert!(
        sentence.contains("tcp 25") && sentence.contains("192.168.50.8:25: cannot connect"),
        "{sentence}"
    );
    services.handle_outcome(7, Err("there is no such test".to_owned()));
    assert_eq!(services.news(), None);
}

#[test]
fn a_tcp_services_rule_needs_a_healthy_server_in_each_of_its_pools() {
    let service = "[[tcp]]\nname = \"imap\"\nport = 8080\nservers = [\"10.0.0.36\"]\n\
        sni = { \"a.test\" = [\"10.0.0.37\", \"10.0.0.38\"] }\n";
    let config = config(&format!("{FILE}{service}"));
    let plan = Plan::new(&config, [1, 2]);
    let told = Services::known_at_start(&config, &plan);
    assert_eq!(told, [true, false, false, true, false]);
    let mut services = Services::new(&config, &plan, told);
    let servers = |healthy: [bool; 3]| {
        let farms = ["imap", "imap/a.test", "imap/a.test"];
        let server = |(farm, healthy): (&str, bool)| ServerStatus {
            farm: farm.to_owned(),
            healthy,
            ..ServerStatus::default()
        };
        let servers = farms.into_iter().zip(healthy).map(server).collect();
        ProxyStatus { alive: true, ready: true, servers, ..ProxyStatus::default() }
    };
    services.handle_proxy(&servers([true, false, false]), at(0));
    assert_eq!(services.news(), None);
    let trouble = services.status()[4].as_ref().unwrap().trouble.clone().unwrap();
    assert_eq!(trouble, "0 of 1 needed server of the farm imap/a.test passes its health test");
    services.handle_proxy(&servers([true, false, true]), at(100));
    assert_eq!(services.news(), Some(vec![true, false, false, true, true]));
}

#[test]
fn the_proxys_rules_need_enough_servers_of_each_farm_and_others_do_not() {
    let mut services = services();
    services.handle_proxy(&proxy([true, false, false]), at(0));
    assert_eq!(services.news(), None);
    let status = services.status();
    let trouble = status[3].as_ref().unwrap().trouble.clone().unwrap();
    assert_eq!(trouble, "1 of 2 needed servers of the farm exchange passes its health test");
    assert_eq!((&status[0], &status[4]), (&None, &None));
    services.handle_proxy(&proxy([true, false, true]), at(100));
    assert_eq!(services.news(), Some(vec![true, false, false, true, true]));
    // One of two fails for a moment, then for long.
    services.handle_proxy(&proxy([true, false, false]), at(200));
    services.handle_proxy(&proxy([true, true, false]), at(300));
    services.handle_timeout(at(900));
    assert_eq!(services.news(), None);
    services.handle_proxy(&proxy([false, true, false]), at(1000));
    services.handle_timeout(services.poll_timeout().unwrap());
    assert_eq!(services.news(), Some(vec![true, false, false, false, true]));
}

#[test]
fn a_dead_proxy_counts_at_once() {
    let mut services = services();
    services.handle_proxy(&proxy([true; 3]), at(0));
    assert!(services.news().unwrap()[3]);
    services.handle_proxy(&ProxyStatus::default(), at(1));
    assert!(!services.news().unwrap()[3]);
}

#[test]
fn a_node_that_cannot_work_with_the_configuration_has_no_service_that_works_until_it_can() {
    let mut services = services();
    services.handle_proxy(&proxy([true; 3]), at(0));
    services.handle_outcome(0, Ok(()));
    services.handle_timeout(at(60_000));
    assert_eq!(services.news(), Some(vec![true; 5]));
    services.handle_objection(Some("it has other keys".to_owned()));
    assert_eq!(services.news(), Some(vec![false; 5]));
    let troubles: Vec<Option<String>> =
        services.status().into_iter().map(|status| status.and_then(|status| status.trouble)).collect();
    assert_eq!(troubles, vec![Some("it has other keys".to_owned()); 5]);
    assert_eq!(services.news(), None, "it is known");
    services.handle_objection(None);
    assert_eq!(services.news(), Some(vec![true; 5]));
}

fn check(kind: CheckKind) -> Check {
    let second = Duration::from_secs(1);
    Check { kind, interval: second, timeout: second * 2, failures: 1, successes: 1 }
}

async fn outcome(check: Check) -> Outcome {
    let (sender, mut outcomes) = mpsc::channel(1);
    let task = tokio::spawn(run::watch(3, check, "64750".to_owned(), sender));
    let (number, outcome) = outcomes.recv().await.unwrap();
    assert_eq!(number, 3);
    task.abort();
    outcome
}

/// A service that gives each client `answer`.
fn service(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(answer.as_bytes());
        }
    });
    address
}

#[tokio::test]
async fn a_service_that_can_be_connected_to_works() {
    let address = service("");
    assert_eq!(outcome(check(CheckKind::Tcp { address })).await, Ok(()));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = outcome(check(CheckKind::Tcp { address: free })).await.unwrap_err();
    assert!(refused.starts_with("cannot connect: "), "{refused}");
}

#[tokio::test]
async fn a_page_is_good_by_its_status_and_body() {
    let address = service("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nall ok\n");
    let sick = service("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
    let endless = service("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nall");
    let silent = service("");
    let page = |address, body: &str| {
        outcome(check(CheckKind::Http {
            address,
            path: "/up".to_owned(),
            host: "mail.example.test".to_owned(),
            status: 200,
            body: body.to_owned(),
        }))
    };
    assert_eq!(page(address, "").await, Ok(()));
    assert_eq!(page(address, "all ok").await, Ok(()));
    assert_eq!(page(address, "fine").await.unwrap_err(), "the answer's body is not the expected one");
    assert_eq!(page(sick, "").await.unwrap_err(), "answered 503");
    assert!(page(endless, "all").await.is_err());
    assert!(page(silent, "").await.is_err());
}

/// A script that these tests alone use, in a folder where others than root can write.
fn script(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("rollcall-check-{}-{name}", std::process::id()));
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn ran(program: &std::path::Path, arguments: &[&str], patience: Duration) -> Outcome {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    command::run(program, &arguments, "64750", patience).await
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_program_that_ends_with_0_found_the_service_well_and_else_says_why() {
    let says = script("says", "echo; echo \"no queue $1\" >&2; echo more; exit $2");
    assert_eq!(ran(&says, &["a b", "0"], LONG).await, Ok(()));
    assert_eq!(ran(&says, &["a b", "3"], LONG).await.unwrap_err(), "exit status 3: no queue a b");
    let killed = script("killed", "kill -9 $$");
    assert_eq!(ran(&killed, &[], LONG).await.unwrap_err(), "ended by signal 9");
    let missing = ran(std::path::Path::new("/nonexistent/ok"), &[], LONG).await.unwrap_err();
    assert!(missing.starts_with("cannot be looked at: "), "{missing}");
    for script in [says, killed] {
        std::fs::remove_file(script).unwrap();
    }
}

#[tokio::test]
async fn what_others_than_root_could_have_written_does_not_run_as_root() {
    let whoami = script("whoami", "id -u; id -g; id -G; env | grep -c ROLLCALL; exit 1");
    let said = ran(&whoami, &[], LONG).await.unwrap_err();
    std::fs::remove_file(whoami).unwrap();
    // These tests run as root; elsewhere it could not have been started at all.
    assert_eq!(said, "exit status 1: 64750");
    let roots = ran(std::path::Path::new("/bin/sh"), &["-c", "id -u; exit 1"], LONG).await.unwrap_err();
    assert_eq!(roots, "exit status 1: 0");
}

#[tokio::test]
async fn a_program_that_goes_on_is_killed_with_all_that_it_started() {
    let pid = std::env::temp_dir().join(format!("rollcall-check-{}-pid", std::process::id()));
    let text = format!("echo waits; sleep 1000 & echo $! > {}; wait", pid.display());
    let hangs = script("hangs", &text);
    std::fs::write(&pid, "").unwrap();
    std::fs::set_permissions(&pid, std::fs::Permissions::from_mode(0o666)).unwrap();
    let said = ran(&hangs, &[], Duration::from_millis(1500)).await.unwrap_err();
    assert_eq!(said, "killed after 1.5s: waits");
    let started = std::fs::read_to_string(&pid).unwrap();
    let has_ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.trim())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    // The signal is sent; on a busy machine its taking effect may wait for a processor. Nothing else ends a sleep of 1000 s.
    while !has_ended() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::remove_file(hangs).unwrap();
    std::fs::remove_file(pid).unwrap();
}

#[tokio::test]
async fn a_program_that_prints_without_end_costs_no_memory_and_no_verdict() {
    let chatters = script("chatters", "head -c 3000000 /dev/zero; echo; exit 0");
    assert_eq!(ran(&chatters, &[], LONG).await, Ok(()));
    std::fs::remove_file(chatters).unwrap();
}
