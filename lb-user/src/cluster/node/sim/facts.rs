//! Configurations that change while the cluster runs: what operators do, and what must come of it.

use super::*;

/// What a configuration says. All have the same owner tables.
#[derive(Clone)]
pub(super) struct Configuration {
    pub(super) members: BTreeSet<Priority>,
    /// Of nodes that have another than the usual weight.
    pub(super) weights: std::collections::BTreeMap<Priority, u8>,
    pub(super) timing: Timing,
    pub(super) failback: Failback,
    pub(super) hold_down: Duration,
    pub(super) ramp: Duration,
}

impl Configuration {
    pub(super) fn of(setup: &Setup, members: impl Iterator<Item = Priority>) -> Self {
        Self {
            members: members.collect(),
            weights: std::collections::BTreeMap::new(),
            timing: setup.timing,
            failback: setup.failback,
            hold_down: setup.hold_down,
            ramp: setup.ramp,
        }
    }
}

impl Sim {
    pub(super) fn configuration(&self, facts: u64) -> &Configuration {
        &self.configurations[&facts]
    }

    /// Whether the newest configuration in force anywhere has this host.
    pub(super) fn is_member(&self, host: usize) -> bool {
        self.configuration(self.in_force).members.contains(&self.hosts[host].priority)
    }

    /// Writes another configuration, as the one in force but for `change`.
    pub(super) fn write(&mut self, change: impl FnOnce(&mut Configuration)) -> u64 {
        let mut configuration = self.configuration(self.in_force).clone();
        change(&mut configuration);
        let facts = self.configurations.keys().max().map_or(1, |last| last + 1);
        self.configurations.insert(facts, configuration);
        facts
    }

    /// An agent checks a configuration and prepares it, if it has a part in it.
    pub(super) fn prepare(&mut self, host: usize, facts: u64) {
        if !self.configuration(facts).members.contains(&self.hosts[host].priority) {
            return;
        }
        self.note(host, || format!("prepares configuration {facts}"));
        let settings = self.settings(host, facts);
        self.disturb();
        self.tell(host, |node, now| node.handle_prepare(settings, now).unwrap());
    }

    pub(super) fn prepare_all(&mut self, facts: u64) {
        (0..self.hosts.len()).for_each(|host| self.prepare(host, facts));
    }

    pub(super) fn withdraw(&mut self, host: usize) {
        self.note(host, || "withdraws".to_owned());
        self.disturb();
        self.tell(host, Node::handle_withdraw);
    }

    /// A host is told that the cluster is to switch.
    pub(super) fn switch(&mut self, host: usize, facts: u64) {
        self.note(host, || format!("the cluster is to switch to configuration {facts}"));
        self.disturb();
        self.tell(host, |node, now| {
            node.handle_switch(facts, now);
        });
    }

    /// A host goes by another configuration from now on.
    pub(super) fn switched(&mut self, host: usize, facts: u64) {
        self.note(host, || format!("switches to configuration {facts}"));
        self.hosts[host].facts = facts;
        self.in_force = self.in_force.max(facts);
        self.disturb();
        let peers: Vec<Priority> = self.peers_of(host, facts);
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.link.set_peers(&peers);
        }
    }

    pub(super) fn peers_of(&self, host: usize, facts: u64) -> Vec<Priority> {
        let me = self.hosts[host].priority;
        self.configuration(facts).members.iter().copied().filter(|peer| *peer != me).collect()
    }

    /// A datagram of a node that the receiver does not know.
    pub(super) fn take_in_stranger(&mut self, to: usize, bytes: &[u8]) {
        let Some(agent) = &self.hosts[to].agent else { return };
        let Ok(stranger) = agent.link.open_stranger(bytes) else { return };
        let mut refusal = None;
        self.tell(to, |node, now| refusal = node.handle_stranger(stranger.node, stranger.serves, now));
        let Some(agent) = &mut self.hosts[to].agent else { return };
        let Some(refusal) = refusal.filter(|_| !agent.node.peers.contains_key(&stranger.node)) else {
            return;
        };
        let datagram = agent.link.refuse(&stranger, refusal);
        self.send(to, usize::from(stranger.node.number()) - 1, Frame::Datagram(datagram));
    }

    /// Who knows what others have switched to has followed by now.
    pub(super) fn check_followed_by_now(&self) {
        let took = self.now.since(self.watch.disturbed);
        let newest = self
            .sharers()
            .filter(|(_, node)| node.serves())
            .map(|(_, node)| (node.facts.since, node.settings.facts))
            .max();
        let Some((since, facts)) = newest.filter(|_| took > self.bounds.converge) else { return };
        for (host, node) in self.sharers() {
            let knows = node.facts.digests().contains(&facts);
            let members = &self.configuration(facts).members;
            let waits = node
                .peers
                .values()
                .any(|peer| peer.standing == Standing::Suspect && !members.contains(&peer.node));
            if node.facts.since < since && knows && !waits {
                self.fail(&format!(
                    "arr{} has not followed to configuration {facts} after {took:?}",
                    host.priority
                ));
            }
        }
    }

    /// Operators change the configuration, one node after the other, and not always to the end.
    pub(super) fn random_switch(&mut self) {
        self.watch.under_way += 1;
        let (facts, added) = self.random_configuration();
        let starts_first = self.random.chance(500);
        if let Some(host) = added.filter(|_| starts_first) {
            self.start_with(host, facts);
        }
        let careless = self.random.chance(100);
        for host in 0..self.hosts.len() {
            if !careless || self.random.chance(700) {
                self.prepare(host, facts);
            }
            self.wait_a_moment();
        }
        let first = self.random.index(self.hosts.len());
        let all = self.random.chance(500);
        for step in 0..self.hosts.len() {
            let host = (first + step) % self.hosts.len();
            if step == 0 || all {
                self.switch(host, facts);
                self.wait_a_moment();
            }
        }
        if self.random.chance(150) {
            let host = self.random.index(self.hosts.len());
            self.withdraw(host);
            self.wait_a_moment();
        }
        if let Some(host) = added.filter(|_| !starts_first) {
            self.start_with(host, facts);
        }
        self.watch.under_way -= 1;
        self.disturb();
    }

    fn start_with(&mut self, host: usize, facts: u64) {
        self.hosts[host].facts = facts;
        if self.hosts[host].powered { self.start(host) } else { self.power_on(host) }
    }

    fn wait_a_moment(&mut self) {
        let most = self.random.pick(&[Duration::from_micros(1), MS, MS * 8]);
        let wait = self.random.between(Duration::ZERO, most);
        self.run(wait);
    }

    /// Another configuration, and the host that it adds.
    fn random_configuration(&mut self) -> (u64, Option<usize>) {
        let absent: Vec<usize> = (0..self.hosts.len()).filter(|host| !self.is_member(*host)).collect();
        let members: Vec<usize> = (0..self.hosts.len()).filter(|host| self.is_member(*host)).collect();
        let host = self.random.pick(&members);
        let (what, random) = (self.random.below(6), self.random.next());
        let node = self.hosts[host].priority;
        match what {
            0 | 1 if !absent.is_empty() => {
                let host = self.random.pick(&absent);
                let node = self.hosts[host].priority;
                (self.write(|next| next.members.extend([node])), Some(host))
            }
            0..3 if members.len() > 2 => {
                (self.write(|next| next.members.retain(|member| *member != node)), None)
            }
            3 => {
                // Never slower than what the bounds are for.
                let slow = self.setup.timing;
                let period = Duration::from_millis(slow.period.as_millis() as u64 * 3 / 4).max(MS * 5);
                let fast = Timing { period, ..slow };
                let timing = if self.configuration(self.in_force).timing == slow { fast } else { slow };
                (self.write(|next| next.timing = timing), None)
            }
            4 => {
                let failback = if random & 1 == 1 { Failback::Immediate } else { Failback::Manual };
                let hold_down = if random & 2 == 2 { Duration::ZERO } else { Duration::from_secs(4) };
                (self.write(|next| (next.failback, next.hold_down) = (failback, hold_down)), None)
            }
            _ => (self.write(|next| next.weights.extend([(node, (random % 101) as u8)])), None),
        }
    }
}
