//! The ways on which a peer's datagrams come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Peer, Standing};
use crate::clock::Time;
use crate::config::model::Timing;

/// A way between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Path {
    /// Through the cluster NIC, to the node's own address.
    First,
    /// Through another network, to its second address.
    Second,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// When the kernel received it: earlier than it was read.
    pub at: Time,
    /// On which path.
    pub path: Path,
}

impl Path {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// What changed of a peer's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathChange {
    /// It is not heard on this one any more.
    Lost(Path),
    /// It is heard on this one again.
    Found(Path),
}

impl Peer {
    /// Something came of it on a path.
    pub(crate) fn hear_on(&mut self, arrived: Arrived) {
        let heard = &mut self.paths[arrived.path as usize];
        *heard = (*heard).max(Some(arrived.at));
    }

    /// On which path it is not heard while it is on the other.
    pub(crate) fn lost_path(&self) -> Option<Path> {
        self.lost_path
    }

    /// Compares its two paths. One alone says nothing of whether the peer lives.
    pub(crate) fn judge_paths(&mut self, ours: &Timing, now: Time) -> Option<PathChange> {
        if self.standing != Standing::Alive {
            return None;
        }
        let suspect_time = self.suspect_time(ours);
        let silence = |path: Path| now.since(self.paths[path as usize].unwrap_or(self.since).max(self.since));
        let lost = |path: &Path| {
            silence(*path) >= LEAST.max(suspect_time * 5) && silence(path.other()) < suspect_time
        };
        match self.lost_path {
            None => {
                self.lost_path = Path::ALL.into_iter().find(lost);
                self.lost_path.map(PathChange::Lost)
            }
            Some(path) if self.paths[path as usize].is_some() && silence(path) < suspect_time => {
                self.lost_path = None;
                Some(PathChange::Found(path))
            }
            Some(_) => None,
        }
    }
}

/// A path that is silent for less is worth no event.
const LEAST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::Priority;
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TIMING: Timing = Timing { period: Duration::from_millis(20), multiplier: 5 };

    /// Goes through steps of 100 ms, a character each: on which paths the peer is heard (`+`, `-`). What changed, with its step.
    fn play(first: &str, second: &str) -> Vec<(usize, PathChange)> {
        let start = Time::from_nanos(1_000_000_000_000);
        let mut peer = Peer::new(Priority::new(2).unwrap(), start);
        peer.standing = Standing::Alive;
        let mut changes = Vec::new();
        for (step, (first, second)) in first.chars().zip(second.chars()).enumerate() {
            let at = start + MS * 100 * u32::try_from(step).unwrap();
            for (path, heard) in [(Path::First, first), (Path::Second, second)] {
                if heard == '+' {
                    peer.hear_on(Arrived { at, path });
                }
            }
            changes.extend(peer.judge_paths(&TIMING, at).map(|change| (step, change)));
        }
        changes
    }

    #[test]
    fn a_path_is_lost_after_a_second_in_which_the_other_works() {
        use PathChange::{Found, Lost};
        let rows: [(&str, [&str; 2], &[_]); 6] = [
            ("both work", ["++++++++++++++", "++++++++++++++"], &[]),
            ("the second falls", ["++++++++++++++++", "+++-------------"], &[(12, Lost(Path::Second))]),
            ("the first falls", ["++--------------", "++++++++++++++++"], &[(11, Lost(Path::First))]),
            ("neither works", ["++--------------", "++--------------"], &[]),
            ("a short gap", ["++++++++++++++++", "++---------+++++"], &[]),
            (
                "it comes back",
                ["++++++++++++++++++", "++-------------+++"],
                &[(11, Lost(Path::Second)), (15, Found(Path::Second))],
            ),
        ];
        for (what, [first, second], expected) in rows {
            assert_eq!(play(first, second), expected, "{what}");
        }
    }

    #[test]
    fn a_path_on_which_nothing_ever_came_is_lost_too() {
        assert_eq!(play("++++++++++++", "------------"), [(10, PathChange::Lost(Path::Second))]);
    }
}
