//! Whose turn it is: smooth weighted round robin, as nginx has it. Pure.
//!
//! Every candidate's credit grows by its weight; the one with the most is chosen and pays what all were given. Over as many
//! turns as the weights sum up to, each server gets exactly its weight, and never many turns in a row.

use super::set::ServerSet;

/// The credit of each of a farm's servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    credits: Vec<i64>,
}

impl Turns {
    /// Nobody has had a turn.
    pub fn new(servers: usize) -> Self {
        Self { credits: vec![0; servers] }
    }

    /// The next of `candidates`, the lowest among equals. `None`: there are none.
    pub fn next(&mut self, candidates: ServerSet, weight: impl Fn(usize) -> u32) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<(i64, usize)> = None;
        for server in candidates.iter() {
            let weight = i64::from(weight(server));
            let credit = self.credits.get_mut(server)?;
            // Saturates only if weights beyond any real one always meet other candidates.
            *credit = credit.saturating_add(weight);
            total += weight;
            if best.is_none_or(|(most, _)| *credit > most) {
                best = Some((*credit, server));
            }
        }
        let (credit, server) = best?;
        *self.credits.get_mut(server)? = credit.saturating_sub(total);
        Some(server)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn turns_are_mixed() {
        let weights = [5, 1, 1];
        let mut turns = Turns::new(3);
        let order: Vec<_> =
            (0..7).map(|_| turns.next(ServerSet::first(3), |server| weights[server]).unwrap()).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn without_candidates_it_is_nobodys_turn() {
        assert_eq!(Turns::new(3).next(ServerSet::EMPTY, |_| 1), None);
    }

    proptest! {
        #[test]
        fn over_a_cycle_each_server_gets_exactly_its_weight(weights in vec(1..60_u32, 1..17), start in 0..500_usize) {
            let all = ServerSet::first(weights.len());
            let mut turns = Turns::new(weights.len());
            for _ in 0..start {
                turns.next(all, |server| weights[server]);
            }
            let mut counts = vec![0; weights.len()];
            for _ in 0..weights.iter().sum() {
                counts[turns.next(all, |server| weights[server]).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn a_server_that_was_left_out_for_a_while_gets_its_share_again_and_no_more(
            weights in vec(1..20_u32, 2..9),
            without in 1..200_usize,
        ) {
            let all = ServerSet::first(weights.len());
            let rest = all - ServerSet::first(1);
            let mut turns = Turns::new(weights.len());
            turns.next(all, |server| weights[server]);
            for _ in 0..without {
                prop_assert_ne!(turns.next(rest, |server| weights[server]), Some(0));
            }
            let total: u32 = weights.iter().sum();
            let got = (0..2 * total).filter(|_| turns.next(all, |server| weights[server]) == Some(0)).count();
            prop_assert!(got.abs_diff(2 * weights[0] as usize) <= 1, "{} of {}", got, 2 * weights[0]);
        }
    }
}
