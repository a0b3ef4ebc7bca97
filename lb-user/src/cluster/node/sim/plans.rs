//! Which cluster a seed stands for, which faults it gets, and when they end.

use super::*;
use crate::config::model::Profile;

/// How many seeds of a hundred have so many nodes.
fn count_of(random: &mut Random) -> u8 {
    match random.below(100) {
        0..90 => 2 + random.below(4) as u8,
        90..99 => 6 + random.below(11) as u8,
        _ => 64,
    }
}

/// What a seed's simulation came to.
pub(super) struct Outcome {
    pub(super) nodes: u8,
    pub(super) simulated: Duration,
    pub(super) steps: u64,
    pub(super) checks: u64,
    pub(super) slowest: Duration,
    pub(super) longest_gap: Duration,
}

/// Runs a seed's simulation; panics where something does not hold that must. `nodes`: so many instead of the seed's number.
pub(super) fn run(seed: u64, nodes: Option<u8>, trace: bool) -> Outcome {
    let mut random = Random(seed ^ 0xf0ca_0000_0000);
    let drawn = count_of(&mut random);
    let count = nodes.unwrap_or(drawn);
    let mut sim = Sim::of_seed(seed, count, random);
    sim.log = trace.then(|| vec![format!("seed {seed}, {count} nodes, {:?}", sim.setup.timing)]);
    let began = sim.now;
    sim.schedule(sim.now, Happening::Look);
    sim.cold_start();
    let rounds = match count {
        0..6 => 3,
        6..17 => 2,
        17.. => 1,
    };
    for round in 1..=rounds {
        let faults = 2 + sim.random.below(6);
        for _ in 0..faults {
            sim.connect(12);
            sim.random_fault();
            let wait = sim.random_wait();
            sim.run(wait);
        }
        sim.heal();
        sim.run_until_calm();
        let calm = if round < rounds || count > 16 { MS * 300 } else { Duration::from_secs(5) };
        sim.run(sim.bounds.converge + calm);
    }
    sim.calm_down();
    Outcome {
        nodes: count,
        simulated: sim.now.since(began),
        steps: sim.steps,
        checks: sim.watch.checks,
        slowest: sim.watch.slowest,
        longest_gap: sim.watch.longest_gap,
    }
}

impl Sim {
    fn of_seed(seed: u64, count: u8, mut random: Random) -> Self {
        let large = count > 16;
        let profile = match random.below(8) {
            0 if !large => Profile::Fast,
            1 if !large => Profile::Vm,
            _ => Profile::Default,
        };
        let timing = profile.timing();
        let tick = if timing.needs_precise_lease() { Duration::ZERO } else { MS * 4 };
        let ramp = random.pick(&[Duration::ZERO, Duration::ZERO, MS * 800]);
        let mut setup = Setup {
            timing,
            lease_margin: tick + timing.suspect() / 50,
            failback: random.pick(&[
                Failback::Immediate,
                Failback::Immediate,
                Failback::After(Duration::from_secs(1)),
                Failback::Manual,
            ]),
            hold_down: random.pick(&[Duration::ZERO, Duration::from_secs(4)]),
            ramp: if large { Duration::ZERO } else { ramp },
            ..Setup::usual()
        };
        // A third of the seeds each are plain, sticky, and sticky with a hearing that comes and goes.
        if !seed.is_multiple_of(3) {
            setup.tables[1].stickiness = Some(STICKINESS);
        }
        if random.chance(300) && !large {
            let weights = [(1, 100), (2, 10)].map(|(node, weight)| (Priority::new(node).unwrap(), weight));
            let weighted = Spread { weights: weights.into(), ..Spread::plain(Filtering::Multiple) };
            setup.tables.push(weighted);
        }
        let mut sim = Self::new(count, seed, setup);
        sim.network.most = random.pick(&[MS / 5, MS, MS * 3]);
        sim.bounds = Bounds::of(&sim.setup, sim.network.most);
        if large {
            sim.bounds.look = MS * 10;
        }
        for host in &mut sim.hosts {
            let shows = Time::from_nanos(1_000_000_000 + random.below(1 << 40));
            host.clock = Clock::new(shows, 995_000 + random.below(10_001), sim.now);
        }
        sim.hearing = seed % 3 == 2 && !large;
        sim
    }

    /// All start within a moment, or one after another.
    fn cold_start(&mut self) {
        self.watch.under_way += 1;
        let most = self.random.pick(&[Duration::from_micros(1), MS * 30, MS * 400]) / self.hosts.len() as u32;
        for host in 0..self.hosts.len() {
            self.start(host);
            let wait = self.random.between(Duration::ZERO, most + Duration::from_nanos(1));
            self.run(wait);
        }
        if self.hearing {
            self.schedule(self.now, Happening::Hearing);
        }
        self.watch.under_way -= 1;
        self.disturb();
        // Long enough for its nodes to count as those of a cluster that runs.
        self.run(self.bounds.converge + MS * 300);
    }

    /// From at once to some suspect times; long ones are rare.
    fn random_wait(&mut self) -> Duration {
        let suspect = self.setup.timing.suspect();
        let most = self.random.pick(&[suspect / 20, suspect / 2, suspect * 3, suspect * 12]);
        self.random.between(Duration::ZERO, most)
    }

    /// Ends every fault of the network and every sleep; hosts without power or agent, and what operators want, mostly stay.
    fn heal(&mut self) {
        self.change_network("the network is well".to_owned(), Network::heal);
        for host in 0..self.hosts.len() {
            self.wake(host);
            if !self.hosts[host].cable {
                self.cable(host, true);
            }
            self.hosts[host].gateway = true;
            self.hosts[host].deaf = false;
        }
        // Who knows the newest configuration follows by itself.
        self.disturb();
        self.run(self.bounds.converge);
        self.stop_outsiders();
        for host in 0..self.hosts.len() {
            let outdated = self.hosts[host].facts != self.in_force;
            if outdated && self.hosts[host].powered && self.is_member(host) {
                self.reconfigure(host, self.in_force);
            } else if self.hosts[host].facts > self.in_force
                || self.hosts[host].agent.is_none() && self.random.chance(500)
            {
                self.bring_back(host);
            }
        }
        let up = |host: usize| self.hosts[host].is_up() && self.is_member(host);
        if !(0..self.hosts.len()).any(up) {
            (0..self.hosts.len()).for_each(|host| self.bring_back(host));
        }
        self.disturb();
    }

    /// Lets what is still under way end: agents being replaced, patience, distrust of oneself.
    fn run_until_calm(&mut self) {
        for _ in 0..1000 {
            if self.is_calm() {
                return;
            }
            self.run(MS * 20);
        }
        self.fail("there is no calm");
    }

    /// What nobody does in a calm of its own: everybody takes a share again.
    fn calm_down(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].agent.is_none() {
                self.bring_back(host);
            }
            self.wish(host, host, Wish::Resume);
            self.serve(host, vec![true; self.setup.tables.len()]);
        }
        self.run(self.bounds.converge + MS * 100);
        let sticky = self.setup.tables.iter().any(|table| table.stickiness.is_some());
        if sticky && self.hosts.len() <= 16 {
            self.run(STICKINESS.max_hold + Duration::from_secs(2) + self.bounds.converge);
        }
    }

    /// Whoever starts a node anew with a configuration first sees to it that nobody serves who is not in it.
    fn stop_outsiders(&mut self) {
        for host in 0..self.hosts.len() {
            let serves = self.hosts[host].node().is_some_and(Node::serves);
            if serves && !self.is_member(host) {
                self.power_off(host);
            }
        }
    }

    /// Has a host serve by the newest configuration, if it has a part in it.
    fn bring_back(&mut self, host: usize) {
        if !self.is_member(host) {
            // Whoever was to be added and was not is switched off again.
            if self.hosts[host].facts > self.in_force {
                self.hosts[host].facts = self.in_force;
                self.kill_agent(host);
            }
            return;
        }
        self.stop_outsiders();
        self.hosts[host].facts = self.in_force;
        if self.hosts[host].powered { self.start(host) } else { self.power_on(host) }
    }

    /// A host gets another configuration: its agent starts anew with it.
    fn reconfigure(&mut self, host: usize, facts: u64) {
        self.note(host, || format!("configuration {facts}"));
        self.hosts[host].facts = facts;
        self.in_force = self.in_force.max(facts);
        self.start(host);
    }

    fn random_fault(&mut self) {
        self.busy = {
            let words = self.random.next() | self.random.next();
            Bucket::all().filter(|bucket| words >> (bucket.index() % 61) & 1 == 1).collect()
        };
        let host = self.random.index(self.hosts.len());
        match self.random.below(23) {
            0 | 1 => self.random_end(host),
            2..5 => self.random_sleep(host),
            5 => self.cable(host, !self.hosts[host].cable),
            6..11 => self.random_network_fault(host),
            11..15 => self.random_wish(host),
            15 => {
                let ready = (0..self.setup.tables.len()).map(|_| self.random.chance(500)).collect();
                self.serve(host, ready);
            }
            16 => {
                let of = &mut self.hosts[host];
                of.deaf ^= true;
                self.disturb();
            }
            17 => {
                self.hosts[host].gateway ^= true;
                self.disturb();
            }
            18 if self.hosts[host].is_up() => self.upgrade(host),
            18 | 19 => {
                let another = self.random.chance(200) && self.is_member(host);
                let facts = if another { self.write(|_| {}) } else { self.in_force };
                if facts != self.hosts[host].facts && self.hosts[host].is_up() && self.is_member(host) {
                    self.reconfigure(host, facts)
                } else {
                    self.disconnect(host)
                }
            }
            _ => self.random_switch(),
        }
    }

    /// A host or an agent ends, in one way or another, or comes back.
    fn random_end(&mut self, host: usize) {
        match self.random.below(4) {
            _ if self.hosts[host].agent.is_none() && self.hosts[host].saved.is_none() => {
                self.bring_back(host)
            }
            0 => self.power_off(host),
            1 => self.kill_agent(host),
            // So soon that nobody suspects it.
            2 if self.hosts[host].powered => self.start(host),
            2 | 3 => self.begin_to_end(host),
            _ => {}
        }
    }

    fn random_sleep(&mut self, host: usize) {
        let longest = self.random.pick(&[MS * 90, MS * 300, MS * 1500, Duration::from_secs(10)]);
        let time = self.random.between(MS, longest.max(self.setup.timing.suspect()));
        if !self.hosts[host].is_up() {
            return self.wake(host);
        }
        match self.random.below(4) {
            0 | 1 => self.pause(host, time),
            2 => self.freeze(host, time, false),
            3 => self.freeze(host, time, true),
            _ => {}
        }
    }

    fn random_network_fault(&mut self, host: usize) {
        let count = self.hosts.len();
        let other = (host + 1 + self.random.index(count - 1)) % count;
        let random = self.random.next();
        let permille = self.random.pick(&[20, 100, 300]);
        let what = self.random.below(7);
        let text = format!("network fault {what}: arr{}, arr{}, {permille}", host + 1, other + 1);
        self.change_network(text, |network| match what {
            0 => network.loss = permille,
            1 => network.ways[host][other] = Way { loss: permille * 2, ..Way::default() },
            2 => network.ways[host][other].cut = true,
            3 => network.ways[host].iter_mut().for_each(|way| way.filtered = true),
            4 => network.ways.iter_mut().for_each(|ways| ways[host].filtered = true),
            5 => (0..count).for_each(|host| network.part[host] = (random >> (host % 61) & 1) as u8),
            6 => network.heal(),
            _ => {}
        });
    }

    fn random_wish(&mut self, at: usize) {
        let to = if self.random.chance(600) { at } else { self.random.index(self.hosts.len()) };
        let table = self.random.chance(300).then_some(1);
        let weight = self.random.chance(800).then(|| self.random.below(101) as u8);
        let rank = self.random.chance(800).then(|| Priority::new(1 + self.random.below(64) as u8)).flatten();
        let node = self.hosts[self.random.index(self.hosts.len())].priority;
        let wish = match self.random.below(12) {
            0 | 1 => Wish::Drain { table },
            2 => Wish::Stop { table },
            3 => Wish::Start { table },
            4 => Wish::Suspend,
            5 | 6 => Wish::Resume,
            7 | 8 => Wish::SetWeight { table, weight },
            9 => Wish::SetRank { rank },
            10 => Wish::FailBack,
            _ => Wish::Forget { node },
        };
        self.wish(at, to, wish);
    }
}
