//! Clients that send and read as slowly as they can, by slowhttptest: they hold themselves up and nobody else.

use std::path::PathBuf;
use std::time::Duration;

use lb_user::clock::Time;
use rollcall_tests::backend::LARGE;
use rollcall_tests::client::Https;
use rollcall_tests::lab::{PUBLIC, PUBLIC_NAME, Plan};
use rollcall_tests::node::{Cluster, PATIENCE};
use rollcall_tests::report::line;
use rollcall_tests::sys::{Process, with_host};

/// Connections of each attack.
const CONNECTIONS: u32 = 500;

/// Requests of others that each attack must let pass. They come one after the other, so an attack lasts long enough for them.
const OTHERS: u32 = 50;

#[test]
fn who_sends_or_reads_slowly_holds_nobody_else_up() {
    let limits = "[limits]\nhead = \"4s\"\nbody_wait = \"10s\"\nidle = \"5s\"\n".to_owned();
    let mut cluster = Cluster::start_on(&Plan { rules: limits, ..Plan::light(1) }).unwrap();
    let others = cluster.https().unwrap();
    let large = format!("https://{PUBLIC_NAME}{}", LARGE.0);
    let (page, often) = (format!("https://{PUBLIC_NAME}/owa/"), CONNECTIONS.to_string());
    for (attack, arguments) in [
        ("slow heads", vec!["-H", "-i", "1", "-u", &page]),
        ("slow bodies", vec!["-B", "-i", "1", "-s", "8192", "-u", &page]),
        ("slow reading", vec!["-X", "-w", "512", "-y", "1024", "-n", "2", "-z", "32", "-u", &large]),
        ("many ranges", vec!["-R", "-u", &large]),
    ] {
        let attacker =
            slowhttptest(&cluster, &[&arguments[..], &["-c", &often, "-r", &often, "-l", "8"]].concat());
        let (answered, longest) = ask(&others, attacker);
        line(format!("beside {attack}: {answered} requests of others answered, the slowest in {longest:?}"));
        assert!(answered >= OTHERS, "{attack}: {answered}");
    }
    // None of them is held for ever, though all of their ends are still open.
    let node = cluster.nodes.first_mut().unwrap();
    node.wait_until("the attackers' connections are gone", |status| {
        status.proxy.as_ref().is_some_and(|proxy| proxy.connections == 0)
    })
    .unwrap();
    assert!(node.log_tail().contains("\"path\":\"/owa/"), "{}", node.log_tail());
    assert_eq!(cluster.tear_down(), Vec::<String>::new());
}

/// slowhttptest on the clients' machine.
fn slowhttptest(cluster: &Cluster, arguments: &[&str]) -> Process {
    let folder: PathBuf = cluster.lab.folder();
    let mut command = with_host("slowhttptest", &folder, PUBLIC_NAME, PUBLIC.into()).unwrap();
    command.args(arguments);
    Process::start("slowhttptest", &cluster.lab.client, &mut command, &folder.join("slowhttptest.log"))
        .unwrap()
}

/// Asks over a new connection each time for as long as the attack lasts: how many were answered, and the longest that one took.
fn ask(others: &Https, mut attacker: Process) -> (u32, Duration) {
    let (mut answered, mut longest) = (0, Duration::ZERO);
    while attacker.ended().is_none() {
        let asked = Time::now();
        let answer = others.connect().unwrap().get("/owa/").unwrap();
        assert_eq!(answer.status, 200);
        answered += 1;
        longest = longest.max(Time::now().since(asked));
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = attacker.wait(PATIENCE).unwrap();
    assert!(status.success(), "{}", attacker.log_tail());
    (answered, longest)
}
