//! Who should own what: the default host computes the owner table, the others adopt it.

use serde::{Deserialize, Serialize};

use super::super::operate::Change;
use super::super::ownership::{Claim, assign};
use super::super::wire::Want;
use super::*;
use crate::config::model::{Filtering, Spread};

/// The owner table that this node follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// How many buckets should have another owner than by the table `before`, over all owner tables.
    fn moved_since(&self, before: &Self) -> usize {
        let moved = |(index, shares): (usize, &Vec<BucketSet>)| {
            let gained =
                |(node, share): (&Priority, &BucketSet)| share.difference(before.share(index, *node)).len();
            self.members.iter().zip(shares).map(gained).sum::<usize>()
        };
        self.shares.iter().enumerate().map(moved).sum()
    }
}

/// What counts in the computation of the table beside what is held. While it stays the same the table stays: moves under way
/// change what is held, and must not change where they go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) node: Priority,
    incarnation: u32,
    rank: Priority,
    /// It is about to leave the cluster, and accepts nothing more.
    stops: bool,
    /// Per owner table.
    wants: Vec<Want>,
}

impl Member {
    /// The same, whatever it wants of shares: which of them it wants none of stays.
    pub(super) fn without_weights(&self) -> Self {
        let wants = self.wants.iter().map(|want| Want { weight: u8::from(want.weight > 0), ..*want });
        Self { wants: wants.collect(), ..self.clone() }
    }

    /// What is most of note in how it differs from what it was.
    pub(super) fn change_from(&self, before: &Self) -> Option<Change> {
        let differs = |of: fn(&Want) -> bool| {
            let pairs = || self.wants.iter().zip(&before.wants).map(move |(now, then)| (of(now), of(then)));
            (pairs().any(|pair| pair == (true, false)), pairs().any(|pair| pair == (false, true)))
        };
        let ((readier, worse), (leaves, back)) = (differs(|want| want.ready), differs(|want| want.leaving));
        let (aside, on) = differs(|want| want.aside);
        let same_weights =
            self.wants.iter().map(|want| want.weight).eq(before.wants.iter().map(|want| want.weight));
        let changes = [
            (self.incarnation != before.incarnation, Change::BeganAgain),
            (worse, Change::Unready),
            (leaves || self.stops && !before.stops, Change::Leaving),
            (readier, Change::Ready),
            (back, Change::Back),
            (aside, Change::Aside),
            (on, Change::FailedBack),
            (self.rank != before.rank, Change::Rank),
            (!same_weights, Change::Weight),
        ];
        changes.into_iter().find(|(changed, _)| *changed).map(|(_, change)| change)
    }
}

impl Node {
    /// The living node with the lowest rank, among those that serve and share our facts.
    pub(super) fn default_host(&self) -> Option<Priority> {
        let me = self.serves().then_some((self.rank(), self.settings.me));
        let peers = self.peers.values().filter(|peer| peer.is_member() && !self.differs(peer));
        let ranked = peers.map(|peer| (peer.rank(), peer.node));
        ranked.chain(me).min().map(|(_, node)| node)
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Stopping)
    }

    pub(super) fn table_id(&self) -> TableId {
        self.table.as_ref().map_or(TableId::default(), |table| table.id)
    }

    /// Computes the table if this node is the default host and its members, weights or what is held by nobody have changed;
    /// adopts it if another is.
    pub(super) fn follow_table(&mut self, now: Time) {
        let Some(host) = self.default_host() else { return };
        if host == self.settings.me {
            self.publish(now);
        } else {
            self.published = None;
            self.adopt(host, now);
        }
    }

    fn publish(&mut self, now: Time) {
        // What is not known whole cannot be shared out; the next part or heartbeat brings us back here.
        let known = |peer: &Peer| !peer.is_member() || self.differs(peer) || peer.is_current();
        if !self.peers.values().all(known) {
            return;
        }
        let members = self.members(now);
        if self.published.is_some() && self.published_for == members {
            return;
        }
        if self.waits_for_followers(&members, now) {
            return;
        }
        let nodes: Vec<Priority> = members.iter().map(|member| member.node).collect();
        let owners = |index| Owners::new(&self.owners(index, &members), &nodes);
        let owners = (0..self.holdings.len()).map(owners).collect();
        self.newest_epoch += 1;
        let causes = self.causes(&members);
        let published = Arc::new(Published { epoch: self.newest_epoch, members: nodes, owners, causes });
        self.published = Some(Arc::clone(&published));
        self.published_for = members;
        self.follow(self.settings.me, &published, now);
    }

    fn adopt(&mut self, host: Priority, now: Time) {
        let Some(peer) = self.peers.get(&host).filter(|peer| peer.is_current()) else {
            return;
        };
        let published = peer.state.as_ref().and_then(|(_, state)| state.published.clone());
        // A node that starts follows a table that it has no part in, and so lets its author know that it knows of it.
        let concerns_us = |table: &Arc<Published>| {
            self.phase == Phase::Starting || table.members.contains(&self.settings.me)
        };
        let Some(published) = published.filter(concerns_us) else {
            return;
        };
        let id = self.id_of(host, published.epoch);
        if id != self.table_id() && published.owners.len() == self.holdings.len() {
            self.follow(host, &published, now);
        }
    }

    fn follow(&mut self, author: Priority, published: &Published, now: Time) {
        let Published { epoch, members, owners, causes } = published;
        self.newest_epoch = self.newest_epoch.max(*epoch);
        let id = self.id_of(author, *epoch);
        let shares = owners.iter().map(|owners| owners.shares(members.len())).collect();
        let table = Table { id, members: members.clone(), shares };
        let moved = self.table.as_ref().map_or(0, |before| table.moved_since(before));
        self.table = Some(table);
        self.followed_for = self.members(now);
        self.begin_to_converge(moved, causes, now);
        self.urgent = true;
    }

    fn id_of(&self, author: Priority, epoch: u64) -> TableId {
        let incarnation = self.peers.get(&author).map_or(self.incarnation, Peer::incarnation);
        TableId { epoch, author: author.number(), incarnation }
    }

    fn members(&self, now: Time) -> Vec<Member> {
        let me = Member {
            node: self.settings.me,
            incarnation: self.incarnation,
            rank: self.rank(),
            stops: self.phase == Phase::Stopping,
            wants: self.wants(now),
        };
        let member = |peer: &Peer| {
            let heartbeat = peer.heartbeat.as_ref().filter(|_| peer.is_member() && !self.differs(peer))?;
            Some(Member {
                node: peer.node,
                incarnation: heartbeat.incarnation,
                rank: heartbeat.rank,
                stops: heartbeat.phase == Phase::Stopping,
                wants: heartbeat.wants.clone(),
            })
        };
        let me = self.serves().then_some(me);
        let mut members: Vec<Member> = self.peers.values().filter_map(member).chain(me).collect();
        members.sort_by_key(|member| member.node);
        members
    }

    /// Who should own what of owner table `index`: balanced, with the fewest moves from what is held now.
    fn owners(&self, index: usize, members: &[Member]) -> Vec<Option<Priority>> {
        let weights = weights(&self.settings.tables[index], index, members);
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

/// The weights that count. Nodes whose service fails, that stand by or that are leaving own nothing while others can; if nobody
/// else can, they keep their shares, and one that drains takes the share of one that stops. A load weight of 0 owns nothing of a
/// `multiple` table while others can.
pub(super) fn weights(spread: &Spread, index: usize, members: &[Member]) -> Vec<u32> {
    let none = Want { weight: 0, ready: false, leaving: true, aside: true };
    let want = |member: &Member| member.wants.get(index).copied().unwrap_or(none);
    let of_weight = |want: &Want| spread.filtering != Filtering::Multiple || want.weight > 0;
    let resort = |member: &Member| match want(member) {
        want if want.ready && !want.leaving && !want.aside && of_weight(&want) => 0,
        want if want.ready && !want.leaving && of_weight(&want) => 1,
        want if want.ready && !want.leaving => 2,
        want if !want.leaving => 3,
        _ if !member.stops => 4,
        _ => 5,
    };
    let best = members.iter().map(resort).min();
    let can = |member: &&Member| Some(resort(member)) == best;
    let handling = |member: &&Member| {
        let number = spread.handling_priorities.get(&member.node).copied();
        (number.unwrap_or(member.rank.number()), member.node)
    };
    let first = members.iter().filter(can).min_by_key(handling).map(|member| member.node);
    let weight = |member: &Member| match spread.filtering {
        Filtering::Multiple if can(&member) => u32::from(want(member).weight.max(1)),
        Filtering::Single if Some(member.node) == first => 1,
        Filtering::Multiple | Filtering::Single | Filtering::Disabled => 0,
    };
    members.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(number: u8) -> Priority {
        Priority::new(number).unwrap()
    }

    /// Members 1, 2, 3 and so on of these states: `r` ready, `u` its service fails, `l` leaving, `s` stopping, `a` standing by, `-`
    /// not there; of weight 50, or of another in `own`.
    fn members(states: &str, own: &std::collections::BTreeMap<Priority, u8>) -> Vec<Member> {
        let member = |(state, number)| Member {
            node: node(number),
            incarnation: 1,
            rank: node(number),
            stops: state == 's',
            wants: vec![Want {
                weight: own.get(&node(number)).copied().unwrap_or(50),
                ready: state != 'u',
                leaving: matches!(state, 'l' | 's'),
                aside: state == 'a',
            }],
        };
        states.chars().zip(1..).filter(|(state, _)| *state != '-').map(member).collect()
    }

    /// `1=30 2=20`: node 1 has 30, node 2 has 20.
    fn numbers(text: &str) -> std::collections::BTreeMap<Priority, u8> {
        let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(number, value)| (node(number.parse().unwrap()), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_multiple_table_weighs_the_ready_by_its_own_weights() {
        let rows: [(&str, &str, &[u32]); 18] = [
            ("rrr", "", &[50, 50, 50]),
            ("rrr", "2=10 3=100", &[50, 10, 100]),
            ("rrr", "2=0", &[50, 0, 50]),
            ("rrr", "1=0 2=0 3=0", &[1, 1, 1]),
            // Who wants nothing is better than who cannot.
            ("urr", "2=0", &[0, 0, 50]),
            ("ur", "2=0", &[0, 1]),
            ("lr", "2=10", &[0, 10]),
            // If nobody works all keep their shares, but those who leave.
            ("uu", "2=10", &[50, 10]),
            ("ulu", "3=0", &[50, 0, 1]),
            ("ll", "2=10", &[50, 10]),
            // Who drains is better than who stops, whether its service works or not.
            ("ls", "2=10", &[50, 0]),
            ("sls", "", &[0, 50, 0]),
            ("su", "2=10", &[0, 10]),
            ("ss", "2=10", &[50, 10]),
            // Who stands by is better than who cannot, or wants nothing.
            ("ar", "", &[0, 50]),
            ("au", "", &[50, 0]),
            ("ar", "2=0", &[50, 0]),
            ("aa", "", &[50, 50]),
        ];
        for (states, own, expected) in rows {
            let spread = Spread::plain(Filtering::Multiple);
            assert_eq!(weights(&spread, 0, &members(states, &numbers(own))), expected, "{states} with {own}");
        }
    }

    #[test]
    fn a_single_table_goes_to_the_lowest_handling_priority_that_can() {
        let rows: [(&str, &str, &[u32]); 12] = [
            ("rrr", "", &[1, 0, 0]),
            ("rrr", "1=30 2=20 3=10", &[0, 0, 1]),
            // Who has none is handled by its host priority.
            ("rrr", "1=30", &[0, 1, 0]),
            ("rrr", "3=1 1=3", &[0, 0, 1]),
            ("rru", "1=30 2=20 3=10", &[0, 1, 0]),
            ("rrl", "1=30 2=20 3=10", &[0, 1, 0]),
            ("rr-", "1=30 2=20 3=10", &[0, 1]),
            ("rul", "1=30 2=20 3=10", &[1, 0, 0]),
            ("uul", "1=30 2=20 3=10", &[0, 1, 0]),
            ("ll-", "1=30 2=20", &[0, 1]),
            ("ls-", "1=30 2=20", &[1, 0]),
            ("--u", "", &[1]),
        ];
        for (states, handling, expected) in rows {
            let handling_priorities = numbers(handling);
            let spread = Spread { handling_priorities, ..Spread::plain(Filtering::Single) };
            assert_eq!(
                weights(&spread, 0, &members(states, &numbers(""))),
                expected,
                "{states} with {handling}"
            );
        }
    }

    #[test]
    fn a_load_weight_of_zero_says_nothing_of_a_single_table() {
        let members = members("rr", &numbers("1=0"));
        assert_eq!(weights(&Spread::plain(Filtering::Single), 0, &members), [1, 0]);
        assert_eq!(weights(&Spread::plain(Filtering::Multiple), 0, &members), [0, 50]);
        assert_eq!(weights(&Spread::plain(Filtering::Disabled), 0, &members), [0, 0]);
    }

    #[test]
    fn a_single_table_goes_by_rank_where_no_handling_priority_is_given() {
        let mut members = members("rr", &numbers(""));
        members[0].rank = node(9);
        assert_eq!(weights(&Spread::plain(Filtering::Single), 0, &members), [0, 1]);
    }

    proptest! {
        /// Every node that computes it gets the same: each member's weight depends on who is there, not on their order.
        #[test]
        fn somebody_always_owns_and_the_order_does_not_matter(
            states in "[rulsa-]{1,9}[rulsa]", own in prop::collection::btree_map(1u8..10, 0u8..=100, 0..10), single: bool,
        ) {
            let own: std::collections::BTreeMap<_, _> = own.into_iter().map(|(number, value)| (node(number), value)).collect();
            let mut members = members(&states, &own);
            // Handling priorities are unique.
            let handling_priorities = own.keys().zip((11..64).rev()).map(|(node, number)| (*node, number)).collect();
            let filtering = if single { Filtering::Single } else { Filtering::Multiple };
            let spread = Spread { handling_priorities, ..Spread::plain(filtering) };
            let forward = weights(&spread, 0, &members);
            members.reverse();
            let mut backward = weights(&spread, 0, &members);
            backward.reverse();
            prop_assert_eq!(&forward, &backward);
            prop_assert!(forward.iter().any(|weight| *weight > 0));
            prop_assert!(!single || forward.iter().sum::<u32>() == 1);
        }
    }
}
