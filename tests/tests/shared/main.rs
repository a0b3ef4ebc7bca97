//! The configuration that nodes share, on real nodes: who comes in and who goes, what is changed on one and served by all, who was away, and what
//! a crash leaves.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what fails panics with its error")]

mod canary;
mod changes;
mod joins;
mod removal;
mod renewal;
mod store;

use std::fs;
use std::path::PathBuf;

use rollcall_tests::lab::Plan;
use rollcall_tests::node::{Cluster, Node};
use serde_json::Value;

/// A cluster of so many nodes that share their configuration, and serve.
fn sharing(nodes: u8) -> Cluster {
    let mut cluster = Cluster::raise(&Plan::light(nodes)).unwrap();
    cluster.share().unwrap();
    cluster
}

/// The text that a node works with, in a file of that node's, changed.
fn changed(node: &Node, change: impl FnOnce(String) -> String) -> PathBuf {
    let text = change(node.control(&["config", "show"]).unwrap());
    let path = node.own_folder().join("changed.toml");
    fs::write(&path, text).unwrap();
    path
}

/// `rollcall config apply` on a node, for all nodes at once; what it printed as JSON, or what it said.
fn apply(node: &Node, change: impl FnOnce(String) -> String) -> Result<Value, String> {
    apply_with(node, &["--no-canary"], change)
}

/// The same with these arguments.
fn apply_with(node: &Node, more: &[&str], change: impl FnOnce(String) -> String) -> Result<Value, String> {
    let path = changed(node, change).to_string_lossy().into_owned();
    let command = [&["config", "apply", &path, "--json"], more].concat();
    let printed = node.control(&command).map_err(|error| format!("{error:#}"))?;
    Ok(serde_json::from_str(&printed).unwrap())
}

/// Everything is answered with 503 and these words.
fn maintenance(text: &str, words: &str) -> String {
    let text: String =
        text.lines().filter(|line| !line.starts_with("maintenance")).flat_map(|line| [line, "\n"]).collect();
    text.replace("[exchange]\n", &format!("[exchange]\nmaintenance = {words:?}\n"))
}

fn log(node: &Node) -> Vec<Value> {
    serde_json::from_str(&node.control(&["config", "log", "--json"]).unwrap()).unwrap()
}

/// The generation that a node works with.
fn at_work(node: &Node) -> String {
    let entry = log(node).into_iter().find(|entry| entry["at_work"] == true).unwrap();
    entry["id"].as_str().unwrap().to_owned()
}
