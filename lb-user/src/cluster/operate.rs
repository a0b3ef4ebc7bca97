//! What operators want of nodes, and why an owner table was computed anew: the vocabulary, and its bytes. What follows from a
//! wish is `node/mandate.rs`'s.

use serde::{Deserialize, Serialize};

use super::wire::{Malformed, Reader};
use crate::config::model::Priority;

/// What the operator wants of a node as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// It takes a share.
    #[default]
    Started,
    /// It hands its share over; its open connections go on.
    Draining,
    /// It hands its share over and leaves the cluster, and its open connections end.
    Stopped,
    /// As `Stopped`, and it does nothing that another node's operator wants until its own resumes it.
    Suspended,
}

/// What the operator wants of a node for one owner table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableMandate {
    /// `Started`, `Draining` or `Stopped`; the last two differ in that a sticky table's clients are waited for or not.
    pub intent: Intent,
    /// Its load weight in this table, 0..=100, if not that of the configuration.
    pub weight: Option<u8>,
}

/// All that operators have told a node: kept when its agent starts anew.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mandate {
    /// As a whole.
    pub intent: Intent,
    /// Its rank, if not its priority number.
    pub rank: Option<Priority>,
    /// Its load weight in all `multiple` tables, 0..=100, if not that of the configuration.
    pub weight: Option<u8>,
    /// By owner table, in their order; what is missing is the default.
    pub tables: Vec<TableMandate>,
}

/// What an operator wants of a node; `table`: of one owner table, `None`: of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Take a share.
    Start {
        /// Of which table.
        table: Option<u8>,
    },
    /// Hand the share over at once; without `table` also leave the cluster.
    Stop {
        /// Of which table.
        table: Option<u8>,
    },
    /// Hand the share over, with regard to clients of sticky tables; open connections go on.
    Drain {
        /// Of which table.
        table: Option<u8>,
    },
    /// Stop, and do nothing that another node's operator wants until resumed here.
    Suspend,
    /// Take a share again after a suspension or a drain.
    Resume,
    /// Use this load weight, 0..=100, or again that of the configuration.
    SetWeight {
        /// In which table.
        table: Option<u8>,
        /// Which.
        weight: Option<u8>,
    },
    /// Use this rank, or again the priority number.
    SetRank {
        /// Which; no other living node may have it.
        rank: Option<Priority>,
    },
    /// Take a share now, though `failback` or repeated falls would have it wait.
    FailBack,
    /// A silent node is gone, and its connections with it.
    Forget {
        /// Which.
        node: Priority,
    },
    /// End the agent in good order and start it anew.
    Restart,
}

/// Why a wish was not done. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denied {
    /// The node is suspended, and only its own operator can change that.
    Suspended,
    /// This living node has that rank.
    RankTaken(Priority),
    /// The node that is to be forgotten is heard, or its data path answers.
    Alive(Priority),
    /// No such owner table, or no such node.
    Unknown,
    /// The node is not heard, or did not answer in time.
    Unanswered,
}

/// Why an owner table was computed anew: what changed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Of which.
    pub node: Priority,
    /// What.
    pub change: Change,
}

/// What changed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It serves now.
    Joined = 0,
    /// It is silent.
    Fell = 1,
    /// It left in good order.
    Left = 2,
    /// It gave everything up and began again.
    BeganAgain = 3,
    /// Its service works again, or packets reach it again.
    Ready = 4,
    /// Its service fails, or packets do not reach it.
    Unready = 5,
    /// It hands its share over.
    Leaving = 6,
    /// It takes a share again.
    Back = 7,
    /// It stands by.
    Aside = 8,
    /// Its time for a share has come.
    FailedBack = 9,
    /// Its load weight.
    Weight = 10,
    /// Its rank.
    Rank = 11,
    /// It became the default host.
    DefaultHost = 12,
}

/// How many causes a table names at most: one a node.
pub(crate) const MAX_CAUSES: usize = 64;

impl Intent {
    const ALL: [Self; 4] = [Self::Started, Self::Draining, Self::Stopped, Self::Suspended];

    pub(crate) fn decode(byte: u8) -> Result<Self, Malformed> {
        let found = Self::ALL.into_iter().find(|intent| *intent as u8 == byte);
        found.ok_or(Malformed::Field("intent"))
    }

    /// Whether the node is to have no share.
    pub fn is_away(self) -> bool {
        match self {
            Self::Started => false,
            Self::Draining | Self::Stopped | Self::Suspended => true,
        }
    }
}

impl Mandate {
    /// Of owner table `index`.
    pub fn table(&self, index: usize) -> TableMandate {
        self.tables.get(index).copied().unwrap_or_default()
    }
}

impl Wish {
    /// Which node is asked to forget another, or what a table is to do: kind, table or node, value. 0 stands for none, and values
    /// are one more than they mean.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        let table = |table: Option<u8>| table.map_or(0, |table| table.saturating_add(1));
        out.extend(match self {
            Self::Start { table: of } => [0, table(of), 0],
            Self::Stop { table: of } => [1, table(of), 0],
            Self::Drain { table: of } => [2, table(of), 0],
            Self::Suspend => [3, 0, 0],
            Self::Resume => [4, 0, 0],
            Self::SetWeight { table: of, weight } => [5, table(of), table(weight)],
            Self::SetRank { rank } => [6, 0, rank.map_or(0, Priority::number)],
            Self::FailBack => [7, 0, 0],
            Self::Forget { node } => [8, node.number(), 0],
            Self::Restart => [9, 0, 0],
        });
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let [kind, table, value] = reader.array()?;
        let of = table.checked_sub(1);
        let wish = match kind {
            0 => Self::Start { table: of },
            1 => Self::Stop { table: of },
            2 => Self::Drain { table: of },
            3 => Self::Suspend,
            4 => Self::Resume,
            5 => Self::SetWeight { table: of, weight: value.checked_sub(1).filter(|weight| *weight <= 100) },
            6 => Self::SetRank { rank: Priority::new(value) },
            7 => Self::FailBack,
            8 => Self::Forget { node: Priority::new(table).ok_or(Malformed::Field("node"))? },
            9 => Self::Restart,
            _ => return Err(Malformed::Field("wish")),
        };
        let mut again = Vec::new();
        wish.encode(&mut again);
        if again == [kind, table, value] { Ok(wish) } else { Err(Malformed::Field("wish")) }
    }
}

impl Denied {
    pub(crate) fn encode(denied: Option<Self>, out: &mut Vec<u8>) {
        out.extend(match denied {
            None => [0, 0],
            Some(Self::Suspended) => [1, 0],
            Some(Self::RankTaken(node)) => [2, node.number()],
            Some(Self::Alive(node)) => [3, node.number()],
            Some(Self::Unknown) => [4, 0],
            Some(Self::Unanswered) => [5, 0],
        });
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let bytes @ [kind, number] = reader.array()?;
        let node = Priority::new(number);
        let denied = match (kind, node) {
            (0, _) => None,
            (1, _) => Some(Self::Suspended),
            (2, Some(node)) => Some(Self::RankTaken(node)),
            (3, Some(node)) => Some(Self::Alive(node)),
            (4, _) => Some(Self::Unknown),
            (5, _) => Some(Self::Unanswered),
            _ => return Err(Malformed::Field("denied")),
        };
        let mut again = Vec::new();
        Self::encode(denied, &mut again);
        if again == bytes { Ok(denied) } else { Err(Malformed::Field("denied")) }
    }

    /// The sentence for the operator; `name` gives a node's name.
    pub fn sentence(self, name: impl Fn(Priority) -> String) -> String {
        match self {
            Self::Suspended => {
                "it is suspended: only `rollcall resume` on that node itself changes that".to_owned()
            }
            Self::RankTaken(node) => {
                format!("{} has that priority: give that node another first", name(node))
            }
            Self::Alive(node) => format!("{} lives: stop it instead", name(node)),
            Self::Unknown => "no such rule or node".to_owned(),
            Self::Unanswered => "it is not heard, or did not answer: ask on that node itself".to_owned(),
        }
    }
}

impl Change {
    const ALL: [Self; 13] = [
        Self::Joined,
        Self::Fell,
        Self::Left,
        Self::BeganAgain,
        Self::Ready,
        Self::Unready,
        Self::Leaving,
        Self::Back,
        Self::Aside,
        Self::FailedBack,
        Self::Weight,
        Self::Rank,
        Self::DefaultHost,
    ];
}

impl Cause {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend([self.node.number(), self.change as u8]);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (node, byte) = (reader.priority()?, reader.u8()?);
        let change = Change::ALL.into_iter().find(|change| *change as u8 == byte);
        Ok(Self { node, change: change.ok_or(Malformed::Field("cause"))? })
    }

    /// In words, as `arr2 joined`; `name` gives a node's name.
    pub fn sentence(self, name: impl Fn(Priority) -> String) -> String {
        let what = match self.change {
            Change::Joined => "joined",
            Change::Fell => "fell silent",
            Change::Left => "left",
            Change::BeganAgain => "began again",
            Change::Ready => "is ready",
            Change::Unready => "is not ready",
            Change::Leaving => "hands its share over",
            Change::Back => "takes a share again",
            Change::Aside => "stands by",
            Change::FailedBack => "stands by no longer",
            Change::Weight => "has another weight",
            Change::Rank => "has another priority",
            Change::DefaultHost => "is the default host",
        };
        format!("{} {what}", name(self.node))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is read from outside is written as the same bytes: nothing has two forms, and nothing panics.
        #[test]
        fn wishes_and_answers_have_one_form(bytes: [u8; 3]) {
            if let Ok(wish) = Wish::decode(&mut Reader(&bytes)) {
                let mut out = Vec::new();
                wish.encode(&mut out);
                prop_assert_eq!(&out[..], &bytes[..]);
            }
            if let Ok(denied) = Denied::decode(&mut Reader(&bytes[..2])) {
                let mut out = Vec::new();
                Denied::encode(denied, &mut out);
                prop_assert_eq!(&out[..], &bytes[..2]);
            }
            if let Ok(cause) = Cause::decode(&mut Reader(&bytes[..2])) {
                let mut out = Vec::new();
                cause.encode(&mut out);
                prop_assert_eq!(&out[..], &bytes[..2]);
            }
        }
    }
}
