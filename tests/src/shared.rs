//! The configuration that nodes share, as operators see it: what a node works with, what it knows, and changes. Asserts nothing.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lb_user::clock::Time;
use serde_json::Value;

use crate::node::{Node, PATIENCE};

/// Has a node make this text the configuration of all at once, by `rollcall config apply`; what it printed as JSON, or what it said.
pub fn apply(node: &Node, text: &str) -> Result<Value> {
    apply_with(node, &["--no-canary"], text)
}

/// The same with these arguments.
pub fn apply_with(node: &Node, more: &[&str], text: &str) -> Result<Value> {
    let path = node.own_folder().join("changed.toml");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.to_string_lossy().into_owned();
    json(node, &[&["config", "apply", &path, "--json"], more].concat())
}

/// The text of the configuration that a node works with, and the generation that it is, both from one answer.
pub fn shown(node: &Node) -> Result<(String, String)> {
    let shown = json(node, &["config", "show", "--json"])?;
    let word =
        |value: &Value| value.as_str().map(str::to_owned).context("`rollcall config show` told no text");
    Ok((word(&shown["entry"]["id"])?, word(&shown["text"])?))
}

/// All generations that a node knows, the newest first.
pub fn log(node: &Node) -> Result<Vec<Value>> {
    let log = json(node, &["config", "log", "--json"])?;
    log.as_array().cloned().with_context(|| format!("`rollcall config log` printed {log}"))
}

/// The generation that a node works with.
pub fn at_work(node: &Node) -> Result<String> {
    let log = log(node)?;
    let entry = log.iter().find(|entry| entry["at_work"] == true);
    let id = entry.and_then(|entry| entry["id"].as_str());
    id.map(str::to_owned).with_context(|| format!("{} works with no generation that it knows", node.name()))
}

/// Waits until all of these work with one generation and say the same of all that each of them can know, and gives it.
pub fn agreed(nodes: &[&Node]) -> Result<String> {
    let deadline = Time::now() + PATIENCE;
    loop {
        let known: Vec<Result<Known>> = nodes.iter().map(|node| Known::of(node)).collect();
        if let Some(id) = in_common(&known) {
            return Ok(id);
        }
        if Time::now() > deadline {
            bail!("the nodes do not agree: {known:#?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a node knows of generations.
#[derive(Debug)]
struct Known {
    at_work: String,
    /// Height, name and standing of each, the newest first.
    all: Vec<(u64, String, String)>,
}

impl Known {
    fn of(node: &Node) -> Result<Self> {
        let log = log(node)?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let at_work = log.iter().find(|entry| entry["at_work"] == true).map(|entry| word(&entry["id"]));
        let at_work = at_work.with_context(|| format!("{} works with nothing that it knows", node.name()))?;
        let height = |entry: &Value| entry["height"].as_u64().unwrap_or_default();
        let all = log.iter().map(|entry| (height(entry), word(&entry["id"]), word(&entry["standing"])));
        Ok(Self { at_work, all: all.collect() })
    }

    /// Those from this height on.
    fn since(&self, height: u64) -> impl Iterator<Item = &(u64, String, String)> {
        self.all.iter().filter(move |(other, ..)| *other >= height)
    }
}

/// What all work with, if that is one generation, and they say the same of all from the first on that each has: what was before a node came
/// it does not know.
fn in_common(known: &[Result<Known>]) -> Option<String> {
    let known: Vec<&Known> = known.iter().map(|known| known.as_ref().ok()).collect::<Option<_>>()?;
    let first = known.first()?;
    let begins = |known: &&Known| known.all.iter().map(|(height, ..)| *height).min();
    let floor = known.iter().filter_map(begins).max()?;
    let same = |other: &&Known| other.at_work == first.at_work && other.since(floor).eq(first.since(floor));
    known.iter().all(same).then(|| first.at_work.clone())
}

fn json(node: &Node, command: &[&str]) -> Result<Value> {
    let printed = node.control(command)?;
    serde_json::from_str(&printed)
        .with_context(|| format!("`rollcall {}` printed {printed}", command.join(" ")))
}
