//! Who should own which bucket: balanced to one bucket, with the fewest moves from what is held.
//!
//! Integer arithmetic and ordered inputs only, so that every node that computes it gets the same table.

use lb_common::table::{BUCKETS, Bucket};

use super::sets::BucketSet;
use crate::config::model::Priority;

/// A member's claim to a share of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Whose.
    pub(crate) node: Priority,
    /// Its share against the others'; 0 owns nothing.
    pub(crate) weight: u32,
    /// What it holds now.
    pub(crate) holds: BucketSet,
}

/// The owner of every bucket, in the order of buckets; `None` where no claim has weight.
///
/// `claims` are in the order of priorities. A bucket that two claim to hold counts for the first.
pub(crate) fn assign(claims: &[Claim]) -> Vec<Option<Priority>> {
    let mut owners = vec![None; BUCKETS];
    let mut room = quotas(claims);
    for (claim, room) in claims.iter().zip(&mut room) {
        for bucket in claim.holds.iter() {
            if *room == 0 {
                break;
            }
            if owners[bucket.index()].is_none() {
                owners[bucket.index()] = Some(claim.node);
                *room -= 1;
            }
        }
    }
    let mut heirs = claims.iter().zip(room).filter(|(_, room)| *room > 0);
    let mut heir = heirs.next();
    for bucket in Bucket::all() {
        if owners[bucket.index()].is_some() {
            continue;
        }
        let Some((claim, room)) = &mut heir else { break };
        owners[bucket.index()] = Some(claim.node);
        *room -= 1;
        if *room == 0 {
            heir = heirs.next();
        }
    }
    owners
}

/// How many buckets each claim gets: in proportion to the weights, and of what remains one more first who holds it already, so that
/// it need not move; then by largest remainder, and ties to the lower priority number.
fn quotas(claims: &[Claim]) -> Vec<usize> {
    let total: u64 = claims.iter().map(|claim| u64::from(claim.weight)).sum();
    if total == 0 {
        return vec![0; claims.len()];
    }
    let exact = |claim: &Claim| BUCKETS as u64 * u64::from(claim.weight);
    let mut quotas: Vec<usize> = claims.iter().map(|claim| (exact(claim) / total) as usize).collect();
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_key(|&index| {
        let claim = &claims[index];
        let remainder = exact(claim) % total;
        let keeps_one_more = remainder > 0 && claim.holds.len() > quotas[index];
        (std::cmp::Reverse(keeps_one_more), std::cmp::Reverse(remainder), claim.node)
    });
    let left = BUCKETS - quotas.iter().sum::<usize>();
    for index in order.into_iter().take(left) {
        quotas[index] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(node: u8, weight: u32, holds: BucketSet) -> Claim {
        Claim { node: Priority::new(node).unwrap(), weight, holds }
    }

    fn count(owners: &[Option<Priority>], node: u8) -> usize {
        owners.iter().filter(|owner| **owner == Priority::new(node)).count()
    }

    #[test]
    fn a_joiner_gets_half_and_nothing_else_moves() {
        let owners = assign(&[claim(1, 50, BucketSet::EMPTY), claim(2, 50, BucketSet::FULL)]);
        assert_eq!((count(&owners, 1), count(&owners, 2)), (2048, 2048));
    }

    #[test]
    fn a_node_without_weight_owns_nothing() {
        let owners = assign(&[claim(1, 0, BucketSet::FULL), claim(2, 1, BucketSet::EMPTY)]);
        assert_eq!(count(&owners, 2), BUCKETS);
        assert!(assign(&[claim(1, 0, BucketSet::FULL)]).iter().all(Option::is_none));
    }

    proptest! {
        /// Balanced to one bucket of the exact share, complete, and as few moves as the quotas allow.
        #[test]
        fn balanced_complete_and_lazy(weights in prop::collection::vec(0u32..=100, 1..20), seed: u64) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let mut state = seed | 1;
            let mut holds = vec![BucketSet::EMPTY; weights.len()];
            for bucket in Bucket::all() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // One in a few buckets is held by nobody, as after a death.
                if let Some(held) = holds.get_mut((state >> 33) as usize % (weights.len() + 1)) {
                    held.insert(bucket);
                }
            }
            let claims: Vec<Claim> = weights.iter().zip(&holds).enumerate()
                .map(|(index, (weight, holds))| claim(index as u8 + 1, *weight, holds.clone())).collect();
            let owners = assign(&claims);
            prop_assert!(owners.iter().all(Option::is_some));
            let total: u32 = weights.iter().sum();
            let quotas = quotas(&claims);
            for (claim, quota) in claims.iter().zip(quotas) {
                let owned: BucketSet = Bucket::all().filter(|b| owners[b.index()] == Some(claim.node)).collect();
                prop_assert_eq!(owned.len(), quota);
                let exact = BUCKETS as f64 * f64::from(claim.weight) / f64::from(total);
                prop_assert!((quota as f64 - exact).abs() < 1.0);
                let kept = owned.intersection(&claim.holds).len();
                prop_assert_eq!(kept, claim.holds.len().min(quota), "moves more than the quota asks for");
            }
        }
    }
}
