//! What a node makes of silence: of each peer's, of the hearing tests', of the gateway's; and whom it asks before it does.

use super::*;

impl Node {
    /// Judges every peer's silence; true if one's standing changed.
    pub(super) fn judge(&mut self, now: Time) -> bool {
        let timing = self.settings.timing;
        let slack = self.lateness.slack(&timing);
        let reached = self.reached();
        let mut events = Vec::new();
        let mut changed = false;
        for peer in self.peers.values_mut() {
            if self.carrier && peer.judge(&timing, slack, reached, now) {
                changed = true;
                // It may have taken more since we last heard of it, and in a part of the network of its own even what is ours.
                peer.may_have = Some(vec![BucketSet::FULL; self.holdings.len()]);
                events.extend(Event::fallen(peer.node, peer.standing));
            }
            if !peer.told.filtered && peer.is_filtered(&timing, now) {
                peer.told.filtered = true;
                events.push(Event::HeartbeatsFiltered(peer.node));
            }
            let missing = peer.silence(now) >= MISSING && peer.standing != Standing::Stopped;
            if !peer.told.missing && missing {
                peer.told.missing = true;
                events.push(Event::NoHeartbeat { node: peer.node, host_answers: peer.kernel_answered() });
            }
            if self.settings.second_path {
                let change = peer.judge_paths(&timing, now);
                events.extend(change.map(|change| path_event(peer.node, change)));
            }
        }
        self.urgent |= changed;
        events.into_iter().for_each(|event| self.report(event));
        changed
    }

    /// Judges this node's hearing; true if it became deaf, or is no longer.
    pub(super) fn listen(&mut self, now: Time) -> bool {
        let alive = self.peers.values().filter(|peer| peer.standing == Standing::Alive);
        let neighbour = |peer: &Peer| Neighbour {
            node: peer.node,
            serves: peer.phase() == Some(Phase::Serving),
            hears: peer.heartbeat.as_ref().map_or(0, |heartbeat| heartbeat.hears),
        };
        let alive: Vec<Neighbour> = alive.map(neighbour).collect();
        let was_deaf = self.hearing.is_deaf();
        if let Some(state) = self.hearing.handle_timeout(self.phase == Phase::Serving, &alive, now) {
            self.report(Event::hearing(state));
        }
        let changed = self.hearing.is_deaf() != was_deaf;
        self.health.deaf = self.hearing.is_deaf();
        self.urgent |= changed;
        changed
    }

    /// Judges this node's way to the gateway; true if it stepped down for it, or no longer has to.
    pub(super) fn look_out(&mut self, now: Time) -> bool {
        let has_it = |peer: &Peer| {
            let heartbeat = peer.heartbeat.as_ref().filter(|_| peer.standing == Standing::Alive);
            heartbeat.is_some_and(|heartbeat| {
                let ready = heartbeat.wants.iter().any(|want| want.ready && !want.leaving);
                heartbeat.phase == Phase::Serving && heartbeat.health.gateway && ready
            })
        };
        let others = self.peers.values().any(has_it);
        let news = self.gateway.handle_timeout(self.phase == Phase::Serving && self.carrier, others, now);
        let changed = !news.is_empty() || self.health.gateway != self.gateway.answers();
        self.health.gateway = self.gateway.answers();
        self.health.cut_off = self.gateway.is_cut_off();
        for new in news {
            self.report(match new {
                GatewayNews::Lost => Event::GatewayLost,
                GatewayNews::Found => Event::GatewayFound,
                GatewayNews::CutOff(cut_off) => Event::CutOff(cut_off),
            });
        }
        self.urgent |= changed;
        changed
    }

    /// Whether packets reach this node, as far as others can tell better.
    pub(super) fn is_reached(&self) -> bool {
        !self.health.deaf && !self.health.cut_off
    }

    /// When this node last reached the network beyond itself. Where there is a gateway, that is who counts: in a part of a network
    /// that was split off with some nodes in it, each of them reaches the others, and those that seem dead live beyond the split.
    pub(super) fn reached(&self) -> Option<Time> {
        let alive =
            self.peers.values().filter(|peer| peer.standing == Standing::Alive && !self.settings.gateway);
        alive.filter_map(Peer::last_heard).chain(self.gateway_answered).max()
    }

    pub(super) fn ask(&mut self, now: Time) {
        if !self.carrier {
            return;
        }
        for peer in self.peers.values_mut() {
            for probe in peer.probes_due(&self.settings.timing, now) {
                self.commands.push_back(Command::Ask { node: peer.node, probe });
            }
        }
        // A node that starts alone, or is alone with a suspect, has to know whether it reaches anyone.
        let suspects = self.peers.values().any(|peer| peer.standing == Standing::Suspect);
        let starts = self.phase == Phase::Starting && self.gateway_answered.is_none();
        if (starts || suspects) && self.next_gateway <= now {
            let pace = if starts { self.settings.timing.period * 2 } else { Duration::from_millis(500) };
            self.next_gateway = now + pace;
            self.commands.push_back(Command::AskGateway);
        } else if self.gateway.asks(now) {
            self.commands.push_back(Command::AskGateway);
        }
        let is_default_host = self.phase == Phase::Serving && self.default_host() == Some(self.settings.me);
        if self.conflicts.asks(self.is_starting(), is_default_host, &self.settings.timing, now) {
            self.commands.push_back(Command::AskAddresses);
        }
    }
}

fn path_event(node: Priority, change: PathChange) -> Event {
    let second = |path| path == Path::Second;
    match change {
        PathChange::Lost(path) => Event::PathLost { node, second: second(path) },
        PathChange::Found(path) => Event::PathFound { node, second: second(path) },
    }
}

/// After this time without a heartbeat from a configured peer the operator is told where to look.
const MISSING: Duration = Duration::from_secs(10);
