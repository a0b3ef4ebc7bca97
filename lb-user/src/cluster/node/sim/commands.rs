//! What happens when: frames and timers reach agents and kernels, and what an agent wants done is done.

use super::*;

/// What goes over the network.
#[derive(Clone)]
pub(super) enum Frame {
    Datagram(Vec<u8>),
    /// An ARP question.
    Question(Probe),
    Answer(Answer),
}

pub(super) enum Happening {
    Arrival {
        from: usize,
        to: usize,
        frame: Frame,
    },
    /// An agent's timer is due.
    Alarm(usize),
    /// A lease may end.
    LeaseEnd(usize),
    Gateway(usize),
    /// An answer of its own kernel, to the agent that asked.
    Scan {
        to: usize,
        run: u32,
        live: Vec<BucketSet>,
    },
    Idle {
        to: usize,
        run: u32,
        idle: Vec<BucketSet>,
    },
    /// Hearing tests are sent.
    Hearing,
    /// Somebody wakes from this of its sleeps.
    Wake {
        host: usize,
        sleep: u32,
    },
    /// An agent makes place for its successor.
    Replace(usize),
    /// The others did not become patient in time.
    GivenUp {
        host: usize,
        run: u32,
    },
    /// The successor goes on.
    Replaced(usize),
    /// An agent that has said goodbye is gone, and a new one starts.
    Ended {
        host: usize,
        run: u32,
    },
    /// Two halves have had the time to merge.
    Merged,
    /// A look at all that is to hold in the end.
    Look,
}

impl Sim {
    pub(super) fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrival { from, to, frame } => self.arrive(from, to, frame),
            Happening::Alarm(host) => {
                let due = self.hosts[host].alarm == Some(self.now) && self.hosts[host].is_up();
                if due {
                    self.hosts[host].alarm = None;
                    self.tell(host, Node::handle_timeout);
                }
            }
            Happening::LeaseEnd(host) => {
                if self.hosts[host].lease_watched == Some(self.now) {
                    self.hosts[host].lease_watched = None;
                    self.watch_lease(host);
                    self.look(host);
                }
            }
            Happening::Gateway(host) => self.input(host, Input::Gateway),
            Happening::Scan { to, run, live } if self.hosts[to].run == run => {
                self.tell(to, |node, now| node.handle_scan(&live, now));
            }
            Happening::Idle { to, run, idle } if self.hosts[to].run == run => {
                self.tell(to, |node, now| node.handle_idle(&idle, now));
            }
            Happening::Scan { .. } | Happening::Idle { .. } => {}
            Happening::Hearing => self.test_hearing(),
            Happening::Wake { host, sleep } if self.hosts[host].sleeps == sleep => self.wake(host),
            Happening::Wake { .. } => {}
            Happening::Replace(host) => self.replace(host),
            // Who stands still is told when it has woken.
            Happening::Replaced(host) if self.hosts[host].asleep.is_some() => {
                self.schedule(self.now + MS * 20, Happening::Replaced(host));
            }
            Happening::Replaced(host) => self.replaced(host),
            Happening::GivenUp { host, run } if self.hosts[host].asleep.is_some() => {
                self.schedule(self.now + MS * 20, Happening::GivenUp { host, run });
            }
            Happening::GivenUp { host, run } => {
                if self.hosts[host].run == run && self.hosts[host].upgrading {
                    self.unprepare(host);
                }
            }
            Happening::Ended { host, run } if self.hosts[host].run == run && self.hosts[host].powered => {
                self.start(host);
            }
            Happening::Ended { .. } => {}
            Happening::Merged => {
                self.end_merging();
                self.check_everything();
            }
            Happening::Look => {
                self.check_calm();
                self.schedule(self.now + self.bounds.look, Happening::Look);
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, frame: Frame) {
        let host = &self.hosts[to];
        if !host.kernel_runs() || !host.cable {
            return;
        }
        match frame {
            Frame::Datagram(bytes) => {
                let at = host.clock.at(self.now);
                self.input(to, Input::Datagram(bytes, at));
            }
            Frame::Answer(answer) => self.input(to, Input::Answer(answer)),
            Frame::Question(probe) => {
                let mac = [2, 0, 0, 0, 0, host.priority.number()];
                let answer = match probe {
                    Probe::Kernel => Answer::Kernel { node: host.priority, mac },
                    Probe::Lease { .. } if host.lease_lives(self.now) => Answer::Lease { mac },
                    Probe::Lease { .. } => return,
                };
                self.send(to, from, Frame::Answer(answer));
            }
        }
    }

    /// Something reaches an agent, or waits for it to wake.
    pub(super) fn input(&mut self, to: usize, input: Input) {
        let host = &mut self.hosts[to];
        let lasting = matches!(input, Input::Carrier(_));
        if host.agent.is_none() || !host.powered {
            return;
        }
        if host.asleep.is_some() {
            if host.inbox.len() < INBOX || lasting {
                host.inbox.push_back(input);
            }
            return;
        }
        self.take_in(to, input);
    }

    fn take_in(&mut self, to: usize, input: Input) {
        match input {
            Input::Datagram(bytes, at) => self.take_in_datagram(to, &bytes, at),
            Input::Answer(answer) => self.tell(to, |node, now| node.handle_answer(answer, now)),
            Input::Gateway => self.tell(to, Node::handle_gateway),
            Input::Carrier(up) => self.tell(to, |node, now| node.handle_carrier(up, now)),
        }
    }

    fn take_in_datagram(&mut self, to: usize, bytes: &[u8], at: Time) {
        let Some(agent) = &mut self.hosts[to].agent else { return };
        match agent.link.open(bytes) {
            Ok(heard) => {
                self.tell(to, |node, now| {
                    let arrived = Arrived { at, path: Path::First };
                    node.handle_message(heard.from, heard.new_session, heard.message, arrived, now);
                });
            }
            Err(refused @ (Refused::Unproven(_) | Refused::Overtaken(_) | Refused::Replay)) => {
                self.tell(to, |node, now| node.handle_refused(refused, None, now));
            }
            Err(Refused::Stranger) => self.take_in_stranger(to, bytes),
            Err(Refused::Malformed(_) | Refused::OwnPriority | Refused::Forged(_)) => {
                self.fail("the simulation sends nothing of that kind")
            }
        }
    }

    /// Has the core of a host do something, if it is awake, and carries out what it wants.
    pub(super) fn tell(&mut self, host: usize, tell: impl FnOnce(&mut Node, Time)) {
        let to = &mut self.hosts[host];
        if !to.is_up() {
            return;
        }
        let now = to.clock.at(self.now);
        if let Some(agent) = &mut to.agent {
            let before = agent.node.before();
            tell(&mut agent.node, now);
            self.check_published(host, &before);
        }
        while let Some(command) = self.hosts[host].agent.as_mut().and_then(|agent| agent.node.next_command())
        {
            self.carry_out(host, command);
        }
        self.set_alarm(host);
    }

    fn set_alarm(&mut self, host: usize) {
        let of = &mut self.hosts[host];
        let Some(node) = of.agent.as_ref().map(|agent| &agent.node) else { return };
        let at = of.clock.when(node.poll_timeout()).max(self.now + Duration::from_micros(1));
        // One that is due sooner than needed finds nothing to do, and sets the next.
        if of.alarm.is_none_or(|alarm| at < alarm || alarm < self.now) {
            of.alarm = Some(at);
            self.schedule(at, Happening::Alarm(host));
        }
    }

    fn carry_out(&mut self, host: usize, command: Command) {
        match command {
            Command::Apply(tables) => {
                let of = &mut self.hosts[host];
                of.tables = tables;
                // A node that an operator stops ends its connections.
                if of.node().is_some_and(|node| node.phase == Phase::Stopped) {
                    of.connections.fill(BucketSet::EMPTY);
                }
                self.look(host);
            }
            Command::Send { to, message } => {
                let Some(agent) = &mut self.hosts[host].agent else { return };
                let bytes = agent.link.seal(to, &message);
                self.watch.sent(bytes.len());
                self.send(host, usize::from(to.number()) - 1, Frame::Datagram(bytes));
            }
            Command::EndRound { lease } => {
                if let Some(lease) = lease {
                    self.renew(host, lease);
                }
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.node.handle_round(lease, None);
                }
            }
            Command::EndLease => {
                self.hosts[host].lease = Time::default();
                self.look(host);
            }
            Command::Ask { node, probe } => {
                self.send(host, usize::from(node.number()) - 1, Frame::Question(probe));
            }
            Command::AskGateway => {
                if self.hosts[host].gateway && self.hosts[host].cable {
                    self.schedule(self.now + MS, Happening::Gateway(host));
                }
            }
            // No other machine has an address of theirs.
            Command::AskAddresses => {}
            Command::Scan => {
                let (run, live) = (self.hosts[host].run, self.hosts[host].connections.clone());
                self.schedule(self.now + MS * 5, Happening::Scan { to: host, run, live });
            }
            Command::FindIdle => {
                self.hosts[host].finds += 1;
                let idle = BucketSet::FULL.difference(&self.busy);
                let (run, idle) = (self.hosts[host].run, vec![idle; self.setup.tables.len()]);
                self.schedule(self.now + MS * 5, Happening::Idle { to: host, run, idle });
            }
            Command::Report(event) => self.report(host, event),
            Command::Keep(mandate) => self.hosts[host].mandate = mandate,
            Command::Switched(facts) => self.switched(host, facts),
            Command::HandedOver => self.handed_over(host),
            // By then the round is out with which the lease lasts for as long.
            Command::Prepared => self.schedule(self.now + MS * 4, Happening::Replace(host)),
            Command::Wished { id: _, denied } => {
                self.note(host, || format!("its wish is answered: {denied:?}"));
            }
            Command::Restart => self.begin_to_end(host),
        }
    }

    fn renew(&mut self, host: usize, lease: Time) {
        let lived = self.hosts[host].lease_lives(self.now);
        self.hosts[host].lease = lease;
        self.watch_lease(host);
        if lived != self.hosts[host].lease_lives(self.now) {
            self.look(host);
        }
    }

    /// Sees to it that the end of a lease is noticed.
    pub(super) fn watch_lease(&mut self, host: usize) {
        let of = &mut self.hosts[host];
        if !of.lease_lives(self.now) || of.clock.stopped {
            return;
        }
        let end = of.clock.when(of.lease);
        if of.lease_watched.is_none_or(|watched| end < watched || watched < self.now) {
            of.lease_watched = Some(end);
            self.schedule(end, Happening::LeaseEnd(host));
        }
    }

    fn report(&mut self, host: usize, event: Event) {
        self.note(host, || event.sentence(|node| format!("arr{node}")));
        if matches!(event, Event::Removed(_)) {
            self.disturb();
        }
        // As a node that stops: whoever has no part in the cluster ends its connections.
        if matches!(event, Event::NotConfigured { .. }) {
            self.hosts[host].connections.fill(BucketSet::EMPTY);
        }
        // The operator's word buries whatever is there.
        if let Event::Forgotten(node) = event {
            self.hosts[usize::from(node.number()) - 1].connections.fill(BucketSet::EMPTY);
        }
        if self.watch.keeps_events {
            self.hosts[host].events.push(event);
        }
    }

    fn test_hearing(&mut self) {
        let now = self.now;
        let sends = |host: &&Host| host.cable && host.kernel_runs() && host.lease_lives(now);
        let senders: BTreeSet<Priority> = self.hosts.iter().filter(sends).map(|host| host.priority).collect();
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            let at = host.clock.at(now) - MS;
            if host.cable && !host.deaf && host.kernel_runs() {
                host.note_heard(&senders, at);
            }
            let heard = host.heard.clone();
            self.tell(index, |node, now| node.handle_heard(heard, now));
        }
        self.schedule(now + Duration::from_secs(1), Happening::Hearing);
    }
}
