//! Whether a service works, by how often its test succeeded or failed in a row. Pure.

use crate::config::model::Check;

/// Counts one test's outcomes.
///
/// ```text
///              failures in a row
///       works ------------------> fails        before the first outcome: not known;
///             <------------------              the first one decides at once
///              successes in a row
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Judge {
    works: Option<bool>,
    /// How many outcomes in a row speak against that.
    against: u8,
}

impl Judge {
    pub(super) fn record(&mut self, success: bool, check: &Check) {
        let needed = if success { check.successes } else { check.failures };
        if self.works == Some(success) {
            self.against = 0;
            return;
        }
        self.against = self.against.saturating_add(1);
        if self.works.is_none() || self.against >= needed {
            *self = Self { works: Some(success), against: 0 };
        }
    }

    /// `None` before the first outcome.
    pub(super) fn works(&self) -> Option<bool> {
        self.works
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::CheckKind;

    fn judged(outcomes: &str) -> String {
        let check = Check {
            kind: CheckKind::Tcp { address: "192.168.50.8:25".parse().unwrap() },
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 3,
            successes: 2,
        };
        let mut judge = Judge::default();
        let mut after = |outcome| {
            judge.record(outcome == '+', &check);
            if judge.works() == Some(true) { '+' } else { '-' }
        };
        outcomes.chars().map(&mut after).collect()
    }

    #[test]
    fn the_first_outcome_decides_and_then_so_many_in_a_row() {
        for (outcomes, works) in [("+--+---+-++", "++++++----+"), ("-+++", "--++"), ("-", "-"), ("+", "+")] {
            assert_eq!(judged(outcomes), works, "{outcomes}");
        }
    }
}
