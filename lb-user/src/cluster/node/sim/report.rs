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
        let start = sim.until_converged();
        let before = (sim.watch.datagrams, sim.watch.bytes);
        sim.run(Duration::from_secs(1));
        let (datagrams, bytes) = (sim.watch.datagrams - before.0, sim.watch.bytes - before.1);
        sim.power_off(usize::from(nodes) - 1);
        let take_over = sim.until_converged();
        sim.power_on(usize::from(nodes) - 1);
        let join = sim.until_converged();
        println!(
            "report nodes {nodes} start_us {} takeover_us {} join_us {} datagrams {} kbit {}",
            start.as_micros(),
            take_over.as_micros(),
            join.as_micros(),
            datagrams / u64::from(nodes),
            bytes * 8 / 1000 / u64::from(nodes),
        );
    }
}

impl Sim {
    /// How long it takes from here until all nodes have converged; what was under way for so long is over a second later.
    fn until_converged(&mut self) -> Duration {
        let began = self.now;
        while self.watch.converged.is_none() {
            self.run(MS);
        }
        let took = self.now.since(began);
        self.run(Duration::from_secs(1));
        took
    }
}
