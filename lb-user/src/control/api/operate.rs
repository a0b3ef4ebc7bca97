//! What an operator wants of nodes, and what became of it.

use serde::{Deserialize, Serialize};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Take a share.
    Start,
    /// Hand the share over at once; a node as a whole also leaves the cluster and ends its connections.
    Stop,
    /// Hand the share over; open connections go on, and clients of sticky rules are waited for.
    Drain,
    /// Stop, and take orders from no other node until resumed on this one.
    Suspend,
    /// Take a share again after a suspension or a drain.
    Resume,
    /// Take a share now, though `failback` or repeated falls would have it wait.
    Failback,
    /// Use a load weight.
    SetWeight {
        /// 0 to 100; `None`: that of the configuration.
        weight: Option<u8>,
    },
    /// Use another host priority among the candidates for default host and for `single` rules.
    SetPriority {
        /// 1 to 64; `None`: that of the configuration.
        priority: Option<u8>,
    },
    /// A silent node is gone, and its connections with it. All that hear this node are told.
    Forget {
        /// Its name.
        node: String,
    },
    /// End the agent in good order and start it anew.
    Restart,
}

/// Of which nodes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nodes {
    /// The one that is asked.
    #[default]
    This,
    /// The one with this name.
    Named(String),
    /// Every configured one.
    All,
}

/// What became of it on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operated {
    /// The node's name.
    pub node: String,
    /// Whether it was done.
    pub done: bool,
    /// What was done, or why not, as the end of a sentence that begins with the node's name.
    pub text: String,
}
