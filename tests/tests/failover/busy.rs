//! Every processor of the machine is busy with something else.

use std::thread;
use std::time::Duration;

use rollcall_tests::node::Cluster;
use rollcall_tests::report::line;
use rollcall_tests::scenario::{Load, Scenario};
use rollcall_tests::stress::Stress;

#[test]
fn for_twenty_seconds_a_busy_machine_loses_no_connection() {
    busy(Duration::from_secs(20));
}

#[test]
#[ignore = "takes five minutes; what the claim in the documentation rests on"]
fn for_five_minutes_a_busy_machine_loses_no_connection() {
    busy(Duration::from_secs(300));
}

/// False suspicions are counted, not forbidden: what they must not do is cost a connection.
fn busy(time: Duration) {
    // What is left of the machine is little.
    let load = Load { rate: 2_000, longest: time * 2 };
    let mut scenario = Scenario::on(Cluster::start(2).unwrap(), load).unwrap();
    let stress = Stress::start(&scenario.cluster.lab, time * 2).unwrap();
    thread::sleep(time);
    let suspicions = ["arr1", "arr2"].map(|name| suspicions(&mut scenario.cluster, name));
    drop(stress);
    scenario.cluster.converge().unwrap();
    let outcome = scenario.finish(&[]).unwrap();
    let unanswered = outcome.attempts.iter().filter(|attempt| attempt.answered.is_none()).count();
    line(format!(
        "busy for {time:?}: {unanswered} of {} new connections unanswered, {:.0} tried a second; false suspicions: {} by arr1, {} by arr2",
        outcome.attempts.len(),
        outcome.rate(),
        suspicions[0],
        suspicions[1]
    ));
    outcome.assert_sound();
    outcome.assert_unbroken("arr1");
    outcome.assert_unbroken("arr2");
}

/// How often a node's agent took the other, which was there all the time, for silent.
fn suspicions(cluster: &mut Cluster, name: &str) -> u32 {
    let events = cluster.node(name).events().unwrap();
    events.iter().filter(|event| event.kind == "suspect").map(|event| event.count).sum()
}
