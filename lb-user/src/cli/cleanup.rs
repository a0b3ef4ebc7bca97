//! `rollcall cleanup`: takes away what a killed agent left on this host, in the order that is safe: the cluster IP first, the
//! packet program after it. With `--json` an object of `removed`: whether anything was left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;
use serde_json::json;

use super::confirm::Consent;
use super::output;
use crate::config;
use crate::control::{client, server};
use crate::dataplane::link::{self, Interface, Lock};
use crate::dataplane::{self, PINS};
use crate::proxy::supervisor;
use crate::shared::origin::{Local, Origin};

pub(super) fn run(origin: &Origin, consent: Consent, json: bool) -> anyhow::Result<()> {
    // Certificates may be gone with what else was removed; they do not matter here.
    let local = match origin {
        Origin::Files { cluster, node } => config::load_unexamined(cluster, node.as_deref())?.local,
        Origin::Store { node } => Local::open(node)?.usable()?.config.local,
    };
    anyhow::ensure!(
        !client::answers(&local.run_dir),
        "an agent is running with the run folder {}; hint: stop it, it cleans up by itself",
        local.run_dir.display()
    );
    consent.ask("What a killed agent left is taken from this host: cluster IPs, packet programs, a proxy that still runs")?;
    // The interface may be gone; what its agent left elsewhere is not.
    let interface = Interface::inspect(local.beneath()).ok();
    let lock = interface.as_ref().map(Lock::take).transpose()?;
    let keys: BTreeSet<String> =
        interface.iter().map(Interface::key).chain(link::recorded(&local.run_dir)).collect();
    // `rollcall load` pins beside the agent.
    let folders = keys.iter().flat_map(|key| [key.clone(), format!("{key}-load")]);
    let pins: Vec<PathBuf> =
        folders.map(|folder| Path::new(PINS).join(folder)).filter(|folder| folder.exists()).collect();
    let proxy = supervisor::end_left(&local.run_dir)?;
    let left = proxy || !pins.is_empty() || local.run_dir.join("host-state.json").exists();

    link::teardown(&local.run_dir)?;
    for folder in pins {
        dataplane::cleanup(&folder).context("cannot take the packet program away")?;
    }
    remove_if_empty(Path::new(PINS))?;
    server::remove_left(&local.run_dir).context("cannot remove the control socket")?;
    drop(lock);
    remove_if_empty(&local.run_dir)?;
    if json {
        output::line(&json!({ "removed": left }).to_string());
        return Ok(());
    }
    output::line(if left { "this host is as it was before the agent" } else { "nothing was left" });
    Ok(())
}

/// A folder that something else still uses stays.
fn remove_if_empty(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir(folder) {
        Err(error)
            if ![io::ErrorKind::NotFound, io::ErrorKind::DirectoryNotEmpty].contains(&error.kind()) =>
        {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
