//! How a node stands, as the agent that is asked sees it: what a command that waits looks at. Pure but for the asking.

use std::path::Path;

use crate::cli::ask::unexpected;
use crate::control::api::{Answer, NodeStatus, Request, Status};
use crate::control::client;

/// The status of the agent with this run folder.
pub(super) fn status(run_dir: &Path) -> anyhow::Result<Status> {
    let answer = client::ask(run_dir, &Request::Status)?;
    let Answer::Status(status) = answer else {
        return Err(unexpected(answer));
    };
    Ok(*status)
}

/// The node with this name; none was configured if it is missing.
pub(super) fn node<'a>(status: &'a Status, name: &str) -> anyhow::Result<&'a NodeStatus> {
    let node = status.nodes.iter().find(|node| node.name == name);
    node.ok_or_else(|| anyhow::anyhow!("{} no longer knows a node {name}", status.node))
}

/// What a node still has that is to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Buckets that move as soon as another node can take them.
    pub(super) share: u32,
    /// Buckets that wait for their clients.
    pub(super) sticky: u32,
    /// Open connections; `None`: it does not say.
    pub(super) connections: Option<u32>,
}

impl Left {
    pub(super) fn on(status: &Status, node: &NodeStatus) -> Self {
        let tables = || status.tables.iter().zip(&node.shares);
        let sum = |sticky: bool| {
            tables().filter(|(table, _)| (table.sticky_seconds > 0) == sticky).map(|(_, held)| held).sum()
        };
        Self { share: sum(false), sticky: sum(true), connections: node.connections }
    }

    pub(super) fn is_nothing(&self) -> bool {
        *self == Self { share: 0, sticky: 0, connections: Some(0) }
    }

    /// In words, as the end of a sentence that begins with the node's name.
    pub(super) fn words(&self) -> String {
        let connections = match self.connections {
            Some(1) => "1 connection".to_owned(),
            Some(connections) => format!("{connections} connections"),
            None => "connections that it does not count".to_owned(),
        };
        match self.share + self.sticky {
            0 => format!("has {connections} left"),
            buckets => format!("has {buckets} buckets and {connections} left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::TableStatus;

    #[test]
    fn what_is_left_counts_sticky_tables_apart() {
        let table = |sticky_seconds| TableStatus { sticky_seconds, ..TableStatus::default() };
        let status = Status { tables: vec![table(0), table(60), table(0)], ..Status::default() };
        let node = NodeStatus { shares: vec![1, 20, 300], connections: Some(4), ..NodeStatus::default() };
        let left = Left::on(&status, &node);
        assert_eq!(left, Left { share: 301, sticky: 20, connections: Some(4) });
        assert_eq!(left.words(), "has 321 buckets and 4 connections left");
        assert!(Left { share: 0, sticky: 0, connections: Some(0) }.is_nothing());
        assert!(!Left { share: 0, sticky: 0, connections: None }.is_nothing());
    }
}
