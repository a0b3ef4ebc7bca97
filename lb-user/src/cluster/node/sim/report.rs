//! Figures for operators: how long a cluster of so many nodes takes to converge, and what its heartbeats cost.

use super::*;

/// Not a test: prints lines for `cargo xtask simulate --report`.
#[test]
#[ignore = "prints figures and judges nothing"]
fn what_heartbeats_and_convergence_cost_by_the_number_of_nodes() {
    for nodes in [2, 4, 8, 16, 32, 64] {
        let mut sim = Sim::new(nodes, 1, Setup::usual());
        sim.network.most = MS;
        sim.bounds = Bounds::of(&sim.setup, sim.network.most);
        sim.schedule(sim.now, Happening::Look);
        (0..sim.hosts.len()).for_each(|host| sim.start(host));
        sim.run(Duration::from_secs(1));
        let start = sim.watch.slowest;
        let before = (sim.watch.datagrams, sim.watch.bytes);
        sim.run(Duration::from_secs(1));
        let (datagrams, bytes) = (sim.watch.datagrams - before.0, sim.watch.bytes - before.1);
        sim.watch.slowest = Duration::ZERO;
        sim.power_off(usize::from(nodes) - 1);
        sim.run(Duration::from_secs(1));
        let take_over = sim.watch.slowest;
        sim.watch.slowest = Duration::ZERO;
        sim.power_on(usize::from(nodes) - 1);
        sim.run(Duration::from_secs(1));
        println!(
            "report nodes {nodes} start_us {} takeover_us {} join_us {} datagrams {} kbit {}",
            start.as_micros(),
            take_over.as_micros(),
            sim.watch.slowest.as_micros(),
            datagrams / u64::from(nodes),
            bytes * 8 / 1000 / u64::from(nodes),
        );
    }
}
