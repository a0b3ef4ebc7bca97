//! config: text -> parse -> check -> model.
//!
//! Two files: the cluster's, the same on all nodes, and this node's own beside it. `raw.rs` mirrors them and holds the
//! defaults, `parse.rs` finds places and misspelt keys, `check.rs` decides, `model.rs` is what the rest of the agent works
//! with. This file and `files.rs` are the only ones here that read the disk.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod check;
mod files;
pub mod model;
mod parse;
mod print;
mod problem;
mod raw;
pub mod secret;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use files::material;
use model::{Cluster, Config, Local};
pub(crate) use problem::split_hint;
pub use problem::{ConfigError, ConfigErrors, Place};
use problem::{Problem, Source};

/// The name of this node's file, in the cluster file's folder.
pub const NODE_FILE: &str = "node.toml";

/// The checked configuration: the cluster file and this node's file (`None`: `node.toml` in the same folder), with the
/// certificate, key and program files that they name looked at.
pub fn load(cluster_file: &Path, node_file: Option<&Path>) -> Result<Config, ConfigErrors> {
    let config = load_unexamined(cluster_file, node_file)?;
    let findings = files::examine(&config);
    if findings.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(findings.errors)) }
}

/// The same without a look at certificates, keys and programs: for `cleanup`, which must work when they are gone.
pub fn load_unexamined(cluster_file: &Path, node_file: Option<&Path>) -> Result<Config, ConfigErrors> {
    let cluster = cluster(cluster_file)?;
    let local = local(&node_path(cluster_file, node_file), &cluster)?;
    Ok(Config { cluster, local })
}

/// The configuration as the node named `node` (`None`: the first) would see it, without a node file: for tools that bring an
/// interface of their own. Certificates are not looked at, and `local.interface` means nothing.
pub fn load_for(cluster_file: &Path, node: Option<&str>) -> Result<Config, ConfigErrors> {
    let cluster = cluster(cluster_file)?;
    let first = &cluster.nodes[0].name;
    let raw = raw::NodeFile::without_file(node.unwrap_or(first).to_owned());
    let source = Source { path: cluster_file, text: "" };
    let local = check::local(&raw, &cluster.nodes).map_err(|problems| source.errors(problems))?;
    Ok(Config { cluster, local })
}

/// A length of time as both files have it, such as `500ms`, `5s`, `2min` or `1h`.
pub(crate) fn length_of_time(text: &str) -> Option<Duration> {
    raw::Time::parse(text).map(|time| time.0)
}

/// What a configuration publishes as tables of its file, with nothing left to a default.
pub(crate) fn expanded(cluster: &Cluster) -> String {
    print::tables(cluster)
}

/// What the operator should know of a configuration that may be used: a certificate that does not serve a name or is about
/// to expire, an OCSP response that is or does, a check that cannot succeed here, a farm that is spoken to in clear. A sentence each.
pub fn warnings(config: &Config) -> Vec<String> {
    let clear = config.cluster.farms.iter().filter_map(in_clear);
    files::examine(config).warnings.into_iter().chain(clear).collect()
}

/// What is told of a farm whose servers are spoken to in clear over a network.
fn in_clear(farm: &model::Farm) -> Option<String> {
    let over_network = |server: &&model::Server| !server.address.ip().is_loopback();
    let servers = farm.servers.iter().filter(over_network).map(|server| server.address.to_string());
    let servers: Vec<String> = servers.collect();
    (farm.verify == model::Verify::Clear && !servers.is_empty()).then(|| {
        let (farm, servers) = (&farm.name, servers.join(", "));
        format!("tls = false in the farm {farm}: requests and answers, passwords and cookies among them, travel in clear to {servers}")
    })
}

/// The path of this node's file.
pub fn node_path(cluster_file: &Path, node_file: Option<&Path>) -> PathBuf {
    node_file.map_or_else(|| cluster_file.with_file_name(NODE_FILE), Path::to_owned)
}

fn cluster(path: &Path) -> Result<Cluster, ConfigErrors> {
    let bytes = read(path).map_err(|error| {
        let hint = "the cluster file is the same on all nodes: copy it from another one";
        let hint = (error.kind() == std::io::ErrorKind::NotFound).then(|| hint.to_owned());
        unreadable(path, &error, hint)
    })?;
    let (text, raw) = parsed::<raw::ClusterFile>(path, &bytes)?;
    check::cluster(&raw).map_err(|problems| Source { path, text }.errors(problems))
}

fn local(path: &Path, cluster: &Cluster) -> Result<Local, ConfigErrors> {
    let bytes = read(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        unreadable(path, &error, missing.then(|| node_lines(cluster)))
    })?;
    let (text, raw) = parsed::<raw::NodeFile>(path, &bytes)?;
    check::local(&raw, &cluster.nodes).map_err(|problems| Source { path, text }.errors(problems))
}

/// What a node's file must say.
fn node_lines(cluster: &Cluster) -> String {
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let (first, ip) = (&names[0], cluster.cluster_ips[0]);
    format!(
        "it holds this node's own facts; two lines are enough:\n  name = \"{first}\"        # this node: {}\n  \
         interface = \"eth0\"   # its interface in {ip}",
        names.join(" or "),
    )
}

fn parsed<'a, T>(path: &Path, bytes: &'a [u8]) -> Result<(&'a str, T), ConfigErrors>
where
    T: serde::de::DeserializeOwned,
{
    let text = parse::decode(bytes).map_err(|problem| Source { path, text: "" }.errors(vec![problem]))?;
    let raw = parse::parse(text).map_err(|problem| Source { path, text }.errors(vec![problem]))?;
    Ok((text, raw))
}

/// At most one byte more than a configuration may have, so that a device or a wrong file costs little.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(parse::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &std::io::Error, hint: Option<String>) -> ConfigErrors {
    let problem = Problem::of_file(format!("cannot be read: {error}"));
    let problem = match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    };
    Source { path, text: "" }.errors(vec![problem])
}
