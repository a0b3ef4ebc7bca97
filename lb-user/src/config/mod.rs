//! config: text -> parse -> check -> model.
//!
//! Two files: the cluster's, the same on all nodes, and this node's own beside it. `encoding.rs` makes text of their bytes,
//! `raw.rs` mirrors them and holds the defaults, `parse.rs` finds all that is wrong with their form, `check.rs` decides,
//! `model.rs` is what the rest of the agent works with. `print.rs` writes a checked one out whole, `edit.rs` changes a file for a
//! command, `certificates.rs` says what the sites' certificates are. This file and `files.rs` are the only ones here that read the disk.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) mod certificates;
mod check;
pub mod edit;
mod encoding;
mod files;
pub mod held;
pub mod model;
mod parse;
mod print;
mod problem;
mod raw;
mod schema;
pub mod secret;
mod spanned;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use files::{first_line, material};
use model::{Cluster, Config, Files, Local};
pub use problem::{ConfigError, ConfigErrors, Place};
use problem::{Problem, Source};
pub(crate) use problem::{split_hint, told};

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
    let node_file = node_path(cluster_file, node_file);
    match cluster(cluster_file) {
        Ok(cluster) => local(&node_file, &cluster).map(|local| Config { cluster, local, files: Files::Disk }),
        Err(ConfigErrors(errors)) => {
            let more = node_errors(&node_file);
            Err(ConfigErrors(errors.into_iter().chain(more).collect()))
        }
    }
}

/// The checked configuration that is `text`, called `name` in errors, with the files that it names from `files`, and this node's
/// file.
pub fn load_text(text: &str, name: &Path, node_file: &Path, files: Files) -> Result<Config, ConfigErrors> {
    let cluster = cluster_of(text.as_bytes(), name)?;
    let local = local(node_file, &cluster)?;
    let config = Config { cluster, local, files };
    let findings = files::examine(&config);
    if findings.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(findings.errors)) }
}

/// The checked cluster configuration that is `text`, called `name` in errors. No file is looked at.
pub fn cluster_of(text: &[u8], name: &Path) -> Result<Cluster, ConfigErrors> {
    checked(name, text, check::cluster)
}

/// What this node's file says of itself, before there is a cluster to check it against.
pub fn local_file(path: &Path) -> Result<LocalFile, ConfigErrors> {
    let bytes = read(path).map_err(|error| {
        let hint = "`rollcall init` makes it on a cluster's first node, `rollcall join` on the others; or name a cluster file: --config FILE";
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        unreadable(path, &error, missing.then(|| hint.to_owned()))
    })?;
    let owned = |path: &spanned::Spanned<PathBuf>| path.get_ref().clone();
    checked(path, &bytes, |raw: &raw::NodeFile| {
        Ok(LocalFile {
            name: raw.name.get_ref().clone(),
            key_file: owned(&raw.key_file),
            run_dir: owned(&raw.run_dir),
            state_dir: owned(&raw.state_dir),
        })
    })
}

/// What [`local_file`] reads; nothing of it is checked.
#[derive(Clone, Debug)]
pub struct LocalFile {
    /// Which of the cluster's nodes this is.
    pub name: String,
    /// File with this node's private keys.
    pub key_file: PathBuf,
    /// Folder for the control socket.
    pub run_dir: PathBuf,
    /// Folder for what outlives a reboot.
    pub state_dir: PathBuf,
}

/// The configuration as the node named `node` (`None`: the first) would see it, without a node file: for tools that bring an
/// interface of their own. Certificates are not looked at, and `local.interface` means nothing.
pub fn load_for(cluster_file: &Path, node: Option<&str>) -> Result<Config, ConfigErrors> {
    without_node_file(cluster(cluster_file)?, cluster_file, node)
}

fn without_node_file(cluster: Cluster, path: &Path, node: Option<&str>) -> Result<Config, ConfigErrors> {
    let first = &cluster.nodes[0].name;
    let raw = raw::NodeFile::without_file(node.unwrap_or(first).to_owned());
    let source = Source { path, text: "" };
    let local = check::local(&raw, &cluster.nodes).map_err(|problems| source.errors(problems))?;
    Ok(Config { cluster, local, files: Files::Disk })
}

/// The JSON Schema of the cluster file.
pub(crate) fn cluster_schema() -> serde_json::Value {
    schema::cluster_file()
}

/// The JSON Schema of a node's own file.
pub(crate) fn node_schema() -> serde_json::Value {
    schema::node_file()
}

/// A cluster file that is no file yet: its text, and what to call it. Certificates and keys are looked at, a node's own facts are not.
pub fn check_text(name: &Path, text: &str) -> Result<Config, ConfigErrors> {
    let config = without_node_file(cluster_of(text.as_bytes(), name)?, name, None)?;
    let findings = files::examine(&config);
    if findings.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(findings.errors)) }
}

/// A length of time as both files have it, such as `500ms`, `5s`, `2min` or `1h`.
pub(crate) fn length_of_time(text: &str) -> Option<Duration> {
    raw::Time::parse(text).map(|time| time.0)
}

/// The cluster file that means the same with nothing left to a default.
pub(crate) fn expanded(cluster: &Cluster) -> String {
    print::whole(cluster)
}

/// What the operator should know of a configuration that may be used: a certificate that does not serve a name or is about
/// to expire, an OCSP response that is or does, a check that cannot succeed here, a farm that is spoken to in clear. A sentence each.
pub fn warnings(config: &Config) -> Vec<String> {
    let clear = config.cluster.farms.iter().filter_map(in_clear);
    let store = config.cluster.store.iter().flat_map(|store| doubts_of_store(store, &config.files));
    files::examine(config).warnings.into_iter().chain(clear).chain(store).collect()
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

/// What is told of an etcd that is not kept to the nodes, or that nobody keeps anything in.
fn doubts_of_store(store: &model::Etcd, files: &Files) -> Vec<String> {
    let clear =
        store.endpoints.iter().filter(|endpoint| !endpoint.tls && !endpoint.address.ip().is_loopback());
    let clear: Vec<String> = clear.map(ToString::to_string).collect();
    let mut doubts = Vec::new();
    if !clear.is_empty() {
        let clear = clear.join(", ");
        let what =
            if store.user.is_some() { "the configuration and the password" } else { "the configuration" };
        doubts.push(format!(
            "{what} travel in clear to {clear}: give [config] endpoints that begin with https"
        ));
    }
    if *files == Files::Disk {
        doubts.push("[config] is for nodes that share their configuration: nothing is kept in etcd by a node that has its in a file".to_owned());
    }
    doubts
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
    cluster_of(&bytes, path)
}

fn local(path: &Path, cluster: &Cluster) -> Result<Local, ConfigErrors> {
    let bytes = read(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        unreadable(path, &error, missing.then(|| node_lines(cluster)))
    })?;
    checked(path, &bytes, |raw| check::local(raw, &cluster.nodes))
}

/// What is wrong with this node's file whatever the cluster is, which has errors itself.
fn node_errors(path: &Path) -> Vec<ConfigError> {
    let Ok(bytes) = read(path) else {
        return Vec::new();
    };
    let errors = checked(path, &bytes, check::local_alone).err();
    errors.map(|ConfigErrors(errors)| errors).unwrap_or_default()
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

/// The file of these bytes as `check` sees it, or all that is wrong with it.
fn checked<R: serde::de::DeserializeOwned, T>(
    path: &Path,
    bytes: &[u8],
    check: impl FnOnce(&R) -> Result<T, Vec<Problem>>,
) -> Result<T, ConfigErrors> {
    let text = encoding::decode(bytes).map_err(|problem| Source { path, text: "" }.errors(vec![problem]))?;
    let checked = parse::parse::<R>(&text).and_then(|raw| check(&raw));
    checked.map_err(|problems| Source { path, text: &text }.errors(problems))
}

/// The text of a cluster file, whatever editor wrote it: UTF-8 or UTF-16, without a byte order mark. Nothing of it is checked.
pub fn text_of(path: &Path) -> Result<String, ConfigErrors> {
    let bytes = read(path).map_err(|error| unreadable(path, &error, None))?;
    encoding::decode(&bytes).map_err(|problem| Source { path, text: "" }.errors(vec![problem]))
}

/// At most one byte more than a configuration may have, so that a device or a wrong file costs little.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(encoding::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
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
