//! Who should own what: the default host computes the owner table, the others adopt it.

use super::super::ownership::{Claim, assign};
use super::*;
use crate::config::model::{Filtering, Spread};

/// The owner table that this node follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) id: TableId,
    pub(super) members: Vec<Priority>,
    /// Per owner table, what each of `members` should own.
    pub(super) shares: Vec<Vec<BucketSet>>,
}

impl Table {
    /// What `node` should own of owner table `index`.
    pub(super) fn share(&self, index: usize, node: Priority) -> &BucketSet {
        let member = self.members.iter().position(|member| *member == node);
        let share = member.and_then(|member| self.shares.get(index)?.get(member));
        share.unwrap_or(&BucketSet::EMPTY)
    }
}

/// What counts in the computation of the table beside what is held. While it stays the same the table stays: moves under way
/// change what is held, and must not change where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    node: Priority,
    incarnation: u32,
    weight: u8,
    ready: bool,
    leaving: bool,
}

impl Node {
    /// The living node with the lowest priority number, among those that serve and share our facts.
    pub(super) fn default_host(&self) -> Option<Priority> {
        let me = self.serves().then_some(self.settings.me);
        let peers = self.peers.values().filter(|peer| peer.is_member() && !self.differs(peer));
        peers.map(|peer| peer.node).chain(me).min()
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Stopping)
    }

    pub(super) fn table_id(&self) -> TableId {
        self.table.as_ref().map_or(TableId::default(), |table| table.id)
    }

    /// Computes the table if this node is the default host and its members, weights or what is held by nobody have changed;
    /// adopts it if another is.
    pub(super) fn follow_table(&mut self) {
        let Some(host) = self.default_host() else { return };
        if host == self.settings.me {
            self.publish();
        } else {
            self.published = None;
            self.adopt(host);
        }
    }

    fn publish(&mut self) {
        // What is not known whole cannot be shared out; the next part or heartbeat brings us back here.
        let known = |peer: &Peer| !peer.is_member() || self.differs(peer) || peer.is_current();
        if !self.peers.values().all(known) {
            return;
        }
        let members = self.members();
        if self.published.is_some() && self.published_for == members {
            return;
        }
        let nodes: Vec<Priority> = members.iter().map(|member| member.node).collect();
        let owners = |index| Owners::new(&self.owners(index, &members), &nodes);
        let owners = (0..self.holdings.len()).map(owners).collect();
        self.newest_epoch += 1;
        let published = Arc::new(Published { epoch: self.newest_epoch, members: nodes, owners });
        self.published = Some(Arc::clone(&published));
        self.published_for = members;
        self.follow(self.settings.me, &published);
    }

    fn adopt(&mut self, host: Priority) {
        let Some(peer) = self.peers.get(&host).filter(|peer| peer.is_current()) else {
            return;
        };
        let published = peer.state.as_ref().and_then(|(_, state)| state.published.clone());
        // A node that starts follows a table that it has no part in, and so lets its author know that it knows of it.
        let concerns_us =
            |table: &Arc<Published>| self.phase == Phase::Starting || table.members.contains(&self.settings.me);
        let Some(published) = published.filter(concerns_us) else {
            return;
        };
        let id = TableId { epoch: published.epoch, author: host.number() };
        if id != self.table_id() && published.owners.len() == self.holdings.len() {
            self.follow(host, &published);
        }
    }

    fn follow(&mut self, author: Priority, published: &Published) {
        let Published { epoch, members, owners } = published;
        self.newest_epoch = self.newest_epoch.max(*epoch);
        let id = TableId { epoch: *epoch, author: author.number() };
        self.report(Event::Converged { table: id, members: members.len() });
        let shares = owners.iter().map(|owners| owners.shares(members.len())).collect();
        self.table = Some(Table { id, members: members.clone(), shares });
        self.urgent = true;
    }

    fn members(&self) -> Vec<Member> {
        let me = Member {
            node: self.settings.me,
            incarnation: self.incarnation,
            weight: self.settings.weight,
            ready: self.is_ready(),
            leaving: self.draining || self.phase == Phase::Stopping,
        };
        let member = |peer: &Peer| {
            let heartbeat = peer.heartbeat.as_ref().filter(|_| peer.is_member() && !self.differs(peer))?;
            Some(Member {
                node: peer.node,
                incarnation: heartbeat.incarnation,
                weight: heartbeat.weight,
                ready: heartbeat.ready,
                leaving: heartbeat.draining || heartbeat.phase == Phase::Stopping,
            })
        };
        let mut members: Vec<Member> = self.peers.values().filter_map(member).chain([me]).collect();
        members.sort_by_key(|member| member.node);
        members
    }

    /// Who should own what of owner table `index`: balanced, with the fewest moves from what is held now.
    fn owners(&self, index: usize, members: &[Member]) -> Vec<Option<Priority>> {
        let weights = weights(&self.settings.tables[index], members);
        let claims: Vec<Claim> = members
            .iter()
            .zip(weights)
            .map(|(member, weight)| Claim {
                node: member.node,
                weight,
                holds: self.claim_of(index, member.node),
            })
            .collect();
        assign(&claims)
    }

    /// What `node` holds, or has been released to.
    fn claim_of(&self, index: usize, node: Priority) -> BucketSet {
        let ours = std::iter::once(self.holdings.get(index));
        let theirs = self.peers.values().filter(|peer| peer.is_member());
        let theirs = theirs.map(|peer| peer.state.as_ref().and_then(|(_, state)| state.holdings.get(index)));
        let mut claim = if node == self.settings.me {
            self.holdings[index].holds.clone()
        } else {
            let peer = self.peers.get(&node).and_then(|peer| peer.state.as_ref());
            peer.and_then(|(_, state)| state.holdings.get(index))
                .map_or(BucketSet::EMPTY, |held| held.holds.clone())
        };
        for holdings in ours.chain(theirs).flatten() {
            for release in holdings.released.iter().filter(|release| release.heir == node) {
                claim = claim.union(&release.set);
            }
        }
        claim
    }
}

/// The weights that count. Nodes whose service fails, or that are leaving, own nothing while others can; if nobody else can,
/// they keep their shares.
fn weights(spread: &Spread, members: &[Member]) -> Vec<u32> {
    let own = |member: &Member| spread.weights.get(&member.node).copied().unwrap_or(member.weight);
    let tiers: [&dyn Fn(&Member) -> bool; 4] = [
        &|member| member.ready && !member.leaving && own(member) > 0,
        &|member| member.ready && !member.leaving,
        &|member| !member.leaving,
        &|_| true,
    ];
    let tier = tiers.into_iter().find(|tier| members.iter().any(tier)).unwrap_or(&|_| true);
    let handling = |member: &&Member| {
        let number = spread.handling_priorities.get(&member.node).copied();
        number.unwrap_or(member.node.number())
    };
    let first = members.iter().filter(|member| tier(member)).min_by_key(handling).map(|member| member.node);
    let weight = |member: &Member| match spread.filtering {
        Filtering::Multiple if tier(member) => u32::from(own(member).max(1)),
        Filtering::Single if Some(member.node) == first => 1,
        Filtering::Multiple | Filtering::Single | Filtering::Disabled => 0,
    };
    members.iter().map(weight).collect()
}
