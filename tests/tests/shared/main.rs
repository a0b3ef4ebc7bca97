//! The configuration that nodes share, on real nodes: who comes in and who goes, what is changed on one and served by all, who was away, and what
//! a crash leaves. The recipe that all of it is for is followed from its first step to its last.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

mod canary;
mod changes;
mod crashes;
mod joins;
mod recipe;
mod removal;
mod renewal;
mod store;

use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};
use rollcall_tests::shared;
use serde_json::Value;

/// A cluster of so many nodes that share their configuration, and serve.
fn sharing(nodes: u8) -> Cluster {
    let mut cluster = Cluster::raise(&Plan::light(nodes)).unwrap();
    cluster.share().unwrap();
    cluster
}

/// `rollcall config apply` on a node, of what it works with, changed, for all nodes at once; what it printed as JSON, or what it said.
fn apply(node: &Node, change: impl FnOnce(String) -> String) -> Result<Value, String> {
    apply_with(node, &["--no-canary"], change)
}

/// The same with these arguments.
fn apply_with(node: &Node, more: &[&str], change: impl FnOnce(String) -> String) -> Result<Value, String> {
    let text = change(node.control(&["config", "show"]).unwrap());
    shared::apply_with(node, more, &text).map_err(|error| format!("{error:#}"))
}

/// Everything is answered with 503 and these words.
fn maintenance(text: &str, words: &str) -> String {
    without(text, "maintenance").replace("[exchange]\n", &format!("[exchange]\nmaintenance = {words:?}\n"))
}

/// What was asked is answered again.
fn open_again(text: String) -> String {
    without(&text, "maintenance")
}

/// Without the lines that set this.
fn without(text: &str, key: &str) -> String {
    text.lines().filter(|line| !line.starts_with(key)).flat_map(|line| [line, "\n"]).collect()
}

/// Something that no client notices.
fn drain_timeout(text: &str, seconds: usize) -> String {
    without(text, "drain_timeout").replacen(
        "[cluster]\n",
        &format!("[cluster]\ndrain_timeout = \"{seconds}s\"\n"),
        1,
    )
}

fn log(node: &Node) -> Vec<Value> {
    shared::log(node).unwrap()
}

/// The generation that a node works with.
fn at_work(node: &Node) -> String {
    shared::at_work(node).unwrap()
}
