//! What can go wrong with hosts, and what operators do.

use super::*;

impl Sim {
    pub(super) fn power_off(&mut self, host: usize) {
        self.note(host, || "power off".to_owned());
        let of = &mut self.hosts[host];
        (of.powered, of.asleep, of.agent, of.saved) = (false, None, None, None);
        of.clock.stop(false, self.now);
        of.connections.fill(BucketSet::EMPTY);
        of.inbox.clear();
        of.lease = Time::default();
        of.tables.fill(BucketTable::filled(BucketState::Other));
        (of.away_since, of.cut_unseen) = (None, false);
        self.disturb_host(host);
        self.network_changed();
        self.look(host);
    }

    pub(super) fn power_on(&mut self, host: usize) {
        self.note(host, || "power on".to_owned());
        self.hosts[host].powered = true;
        self.start(host);
    }

    /// The agent ends without a word. What the kernel has stays.
    pub(super) fn kill_agent(&mut self, host: usize) {
        self.note(host, || "agent killed".to_owned());
        (self.hosts[host].agent, self.hosts[host].saved) = (None, None);
        if self.hosts[host].asleep == Some(Asleep::Agent) {
            self.hosts[host].asleep = None;
        }
        self.disturb_host(host);
    }

    /// The agent stands still, and its host goes on.
    pub(super) fn pause(&mut self, host: usize, time: Duration) {
        self.note(host, || format!("agent paused for {time:?}"));
        self.hosts[host].asleep = Some(Asleep::Agent);
        self.wake_in(host, time);
    }

    /// The whole host stands still, and its clock with it or not.
    pub(super) fn freeze(&mut self, host: usize, time: Duration, clock: bool) {
        self.note(host, || format!("host frozen for {time:?}, its clock too: {clock}"));
        let of = &mut self.hosts[host];
        of.asleep = Some(Asleep::Host);
        of.clock.stop(clock, self.now);
        of.away_since.get_or_insert(self.now);
        self.network_changed();
        self.look(host);
        self.wake_in(host, time);
    }

    fn wake_in(&mut self, host: usize, time: Duration) {
        self.hosts[host].sleeps += 1;
        let sleep = self.hosts[host].sleeps;
        self.disturb_host(host);
        self.network_changed();
        self.schedule(self.now + time, Happening::Wake { host, sleep });
    }

    pub(super) fn wake(&mut self, host: usize) {
        let Some(asleep) = self.hosts[host].asleep.take() else { return };
        self.note(host, || format!("wakes ({asleep:?})"));
        self.hosts[host].clock.stop(false, self.now);
        self.watch_lease(host);
        self.disturb_host(host);
        if asleep == Asleep::Host {
            self.come_back(host);
            self.look(host);
        }
        self.network_changed();
        // Its timer is overdue; all that waits in its queues is read first.
        for input in std::mem::take(&mut self.hosts[host].inbox) {
            self.input(host, input);
        }
        self.tell(host, Node::handle_timeout);
    }

    /// The host reaches others again. What it had is lost if it was away for too long.
    fn come_back(&mut self, host: usize) {
        let of = &self.hosts[host];
        if !of.cable || of.asleep == Some(Asleep::Host) {
            return;
        }
        let lost = self.is_lost(of);
        self.hosts[host].away_since = None;
        if lost {
            self.hosts[host].connections.fill(BucketSet::EMPTY);
        }
    }

    /// The cluster NIC loses or finds its carrier.
    pub(super) fn cable(&mut self, host: usize, up: bool) {
        self.note(host, || if up { "cable plugged" } else { "cable cut" }.to_owned());
        self.hosts[host].cable = up;
        if up {
            self.come_back(host);
        } else {
            self.hosts[host].away_since.get_or_insert(self.now);
            if self.hosts[host].saved.is_some() {
                self.hosts[host].cut_unseen = true;
                self.network_changed();
            }
        }
        self.disturb_host(host);
        self.look(host);
        self.input(host, Input::Carrier(up));
    }

    /// What the operator at a host wants of a node.
    pub(super) fn wish(&mut self, at: usize, to: usize, wish: Wish) {
        self.note(at, || format!("arr{} is to {wish:?}", to + 1));
        let (id, to) = (self.random.next() as u32, self.hosts[to].priority);
        self.disturb();
        self.tell(at, |node, now| node.handle_wish(id, to, wish, now));
    }

    pub(super) fn order(&mut self, host: usize, order: Order) {
        self.note(host, || format!("{order:?}"));
        self.disturb();
        self.tell(host, |node, now| node.handle_order(order, now));
    }

    /// The agent ends in good order, and the next one starts.
    pub(super) fn begin_to_end(&mut self, host: usize) {
        self.hosts[host].ending = true;
        self.order(host, Order::Stop);
    }

    pub(super) fn handed_over(&mut self, host: usize) {
        self.hosts[host].handed_over = true;
        if self.hosts[host].ending {
            // Its children end with it, and so do their connections.
            self.hosts[host].connections.fill(BucketSet::EMPTY);
            self.order(host, Order::Leave);
            let run = self.hosts[host].run;
            self.schedule(self.now + MS * 10, Happening::Ended { host, run });
        }
    }

    /// The agent is to be replaced in place.
    pub(super) fn upgrade(&mut self, host: usize) {
        self.hosts[host].upgrading = true;
        self.hosts[host].patience = Time::from_nanos(u64::MAX);
        self.order(host, Order::Prepare);
        let run = self.hosts[host].run;
        self.schedule(self.now + Duration::from_secs(1), Happening::GivenUp { host, run });
    }

    /// The others wait: the old agent is gone, and the new one is not there yet.
    pub(super) fn replace(&mut self, host: usize) {
        let of = &mut self.hosts[host];
        if !of.is_up() || !std::mem::take(&mut of.upgrading) {
            return;
        }
        let Some(Agent { link, node }) = of.agent.take() else { return };
        of.saved = Some((link.save(), serde_json::to_string(&node).unwrap()));
        of.run += 1;
        let patience = node.longest_patience();
        self.note(host, || "its agent is replaced".to_owned());
        self.network_changed();
        let away = self.random.between(MS * 20, patience * 3 / 4);
        self.schedule(self.now + away, Happening::Replaced(host));
    }

    pub(super) fn replaced(&mut self, host: usize) {
        let of = &mut self.hosts[host];
        let Some((link, node)) = of.saved.take() else { return };
        let link = Link::resume(link, of.priority, ClusterSecret::parse(SECRET).unwrap()).unwrap();
        of.agent = Some(Agent { link, node: serde_json::from_str(&node).unwrap() });
        self.note(host, || "its new agent goes on".to_owned());
        if std::mem::take(&mut self.hosts[host].cut_unseen) {
            // The kernel counts how often the carrier was lost.
            self.tell(host, |node, now| node.handle_carrier(false, now));
        }
        let cable = self.hosts[host].cable;
        self.tell(host, |node, now| node.handle_carrier(cable, now));
        self.unprepare(host);
        self.network_changed();
    }

    /// The agent is not to be replaced any more. The others hear so with its next heartbeats.
    pub(super) fn unprepare(&mut self, host: usize) {
        self.hosts[host].upgrading = false;
        self.hosts[host].patience = self.now + self.bounds.converge;
        self.order(host, Order::Unprepare);
    }

    /// Clients connect: so many connections, each to who accepts its bucket.
    pub(super) fn connect(&mut self, count: usize) {
        for _ in 0..count {
            let table = self.random.index(self.setup.tables.len());
            let bucket = Bucket::of_hash(self.random.next());
            let accepts = |host: &usize| self.hosts[*host].accepts[table].contains(bucket);
            let acceptors: Vec<usize> = (0..self.hosts.len()).filter(accepts).collect();
            if !acceptors.is_empty() {
                let host = self.random.pick(&acceptors);
                self.hosts[host].connections[table].insert(bucket);
            }
        }
    }

    /// Some connections end.
    pub(super) fn disconnect(&mut self, host: usize) {
        let random = self.random.next();
        let stays = |bucket: &Bucket| random >> (bucket.index() % 61) & 1 == 0;
        for connections in &mut self.hosts[host].connections {
            *connections = connections.iter().filter(stays).collect();
        }
    }

    /// The services behind some tables fail on a host, or work again.
    pub(super) fn serve(&mut self, host: usize, ready: Vec<bool>) {
        self.note(host, || format!("its services work: {ready:?}"));
        self.hosts[host].ready.clone_from(&ready);
        self.disturb();
        self.tell(host, |node, now| node.handle_ready(&ready, now));
    }

    pub(super) fn change_network(&mut self, what: String, change: impl FnOnce(&mut Network)) {
        self.note_all(|| what);
        change(&mut self.network);
        self.network_changed();
    }
}
