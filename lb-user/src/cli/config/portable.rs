//! `rollcall config export` and `import`: the shared configuration in one file under a passphrase, and a cluster from it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::json;

use crate::cli::host::{Host, Me, asked, host_name, new_keys};
use crate::cli::{output, passphrase};
use crate::config;
use crate::config::model::{Cluster, PEER_PORT};
use crate::shared::founding::{NewNode, restore};
use crate::shared::origin::{self, Local};
use crate::shared::portable::{MOST_BYTES, Portable, WORK};
use crate::shared::store::Store;
use crate::wall::WallTime;

/// What was typed for an export.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Export {
    /// The file to write
    file: PathBuf,
    /// A file whose first line is the passphrase [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Write over a file that is there already
    #[arg(long)]
    force: bool,
    /// This node's file
    #[arg(long, value_name = "FILE", default_value = origin::NODE_FILE)]
    node_file: PathBuf,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

/// What was typed for an import.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Import {
    /// The file that `rollcall config export` wrote
    file: PathBuf,
    /// A file whose first line is the passphrase [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Which of the file's nodes this host takes the place of [default: the one of the host's name]
    #[arg(long, value_name = "NODE", conflicts_with = "name")]
    node: Option<String>,
    /// Its host priority, 1 to 64, where it takes no other's place
    #[arg(long, default_value_t = 1)]
    priority: u8,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: Host,
}

pub(super) fn export(args: &Export) -> anyhow::Result<()> {
    let Export { file, passphrase_file, force, node_file, json } = args;
    ensure!(*force || !file.exists(), "{} is there already; hint: --force writes over it", file.display());
    let local = Local::open(node_file)?;
    let in_force = local.in_force()?;
    if let Some(why) = &in_force.instead_of {
        output::remark(&format!(
            "an older generation is exported, because a newer one cannot be used: {why}"
        ));
    }
    let generation = local.history.generation(in_force.id).context("the generation in force is not whole")?;
    let portable = Portable {
        generation: in_force.id,
        height: generation.head.header().height,
        by: local.file.name.clone(),
        time: WallTime::now().unix_ms(),
        text: generation.content.text,
        secrets: in_force.secrets,
    };
    let passphrase = passphrase::chosen(passphrase_file.as_deref())?;
    let bytes = portable.seal(&passphrase, WORK)?;
    write(file, &bytes, *force)?;
    let (id, files, size) = (portable.generation, portable.secrets.files.len(), bytes.len());
    if *json {
        let told = json!({ "file": file, "generation": id.to_string(), "height": portable.height, "files": files, "bytes": size });
        output::line(&told.to_string());
    } else {
        let size = output::size(size as u64);
        output::line(&format!(
            "generation {} of the configuration is in {} ({size}); files that it holds: {files}",
            id.short(),
            file.display()
        ));
        output::remark("who has this file and its passphrase has every key of the cluster: keep them apart");
    }
    Ok(())
}

/// Writes a file whole or not at all, for root alone.
fn write(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    let mut name =
        path.file_name().context("the file has no name; hint: rollcall config export FILE")?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = write_new(&new, bytes).and_then(|()| place(&new, path, force));
    if written.is_err() {
        // It may not have come to be.
        let _ = fs::remove_file(&new);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file its name, which no other loses by it unless it is to.
fn place(new: &Path, path: &Path, force: bool) -> io::Result<()> {
    if force {
        fs::rename(new, path)?;
    } else {
        match renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE) {
            // Network file systems do not know it.
            Err(Errno::INVAL | Errno::NOSYS) if !path.exists() => fs::rename(new, path)?,
            renamed => renamed?,
        }
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

pub(super) fn import(args: &Import) -> anyhow::Result<()> {
    let Import { file, passphrase_file, priority, json, host, .. } = args;
    host.is_free()?;
    let bytes = read(file)?;
    let cannot = || format!("cannot read {}", file.display());
    Portable::look(&bytes).with_context(cannot)?;
    let passphrase = passphrase::known(passphrase_file.as_deref())?;
    let portable = Portable::open(&bytes, &passphrase).with_context(cannot)?;
    let cluster = config::cluster_of(portable.text.as_bytes(), file)?;
    let name = name(args, &cluster)?;
    let before = cluster.nodes.iter().find(|node| node.name == name);
    let me = host.whoami_as(name, before.map(|node| node.address))?;
    let keys = new_keys()?;
    let node = NewNode { name: me.name.clone(), address: me.address, priority: *priority };
    let told = json!({
        "node": me.name,
        "address": me.address,
        "from": { "generation": portable.generation.to_string(), "height": portable.height, "by": portable.by,
                  "time": WallTime::from_unix_ms(portable.time) },
        "left_out": others(&cluster, &me.name),
    });
    let words = words(&portable, &cluster, &me, host);
    let (generation, record) = restore(portable, &node, &keys, WallTime::now().unix_ms())?;
    host.settle(&me, &keys, || {
        Store::create(&host.state_dir, &generation, &[record])?;
        Ok(())
    })?;
    if *json {
        output::line(&told.to_string());
    } else {
        words.iter().for_each(|line| output::line(line));
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// Which node this host becomes.
fn name(args: &Import, cluster: &Cluster) -> anyhow::Result<String> {
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    if let Some(name) = args.host.typed_name() {
        return Ok(name.to_owned());
    }
    let own = host_name();
    let name = match &args.node {
        Some(node) => node.clone(),
        None if names.contains(&own.as_str()) => own,
        None => {
            let what = format!(
                "which node of the file this host, {own}, takes the place of: {}; or --name, for one that is new",
                names.join(", ")
            );
            asked(None, "--node", &what, names.first().copied().unwrap_or_default())?
        }
    };
    if !names.contains(&name.as_str()) {
        bail!("{} has no node {name}; hint: it has {}", args.file.display(), names.join(", "));
    }
    Ok(name)
}

fn others<'a>(cluster: &'a Cluster, me: &str) -> Vec<&'a str> {
    cluster.nodes.iter().map(|node| node.name.as_str()).filter(|name| *name != me).collect()
}

/// What was done and what comes next.
fn words(portable: &Portable, cluster: &Cluster, me: &Me, host: &Host) -> Vec<String> {
    let arguments = host.arguments();
    let time = WallTime::from_unix_ms(portable.time).local();
    let mut lines = vec![
        format!("{} is the first node of the restored cluster", me.name),
        format!(
            "  restored from   generation {}, which {} exported at {time}",
            portable.generation.short(),
            portable.by
        ),
        format!("  its own facts   {}", host.node_file().display()),
        format!("  its keys        {}, new ones, which stay on this host", host.key_file().display()),
        format!("  its address     {}", me.address),
    ];
    let others = others(cluster, &me.name);
    if !others.is_empty() {
        lines.push(format!("  left out        {}: each joins anew", others.join(", ")));
    }
    lines.push("next:".to_owned());
    lines.push("  end the agents that still run with the old configuration, if there are any".to_owned());
    lines.push(format!("  rollcall run{arguments}"));
    lines.push("      serves".to_owned());
    lines.push("  rollcall token".to_owned());
    lines.push(format!(
        "      prints what the next node joins with; TCP {PEER_PORT} has to be open between nodes"
    ));
    lines
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_roots_alone_and_is_not_written_over_unless_it_is_to_be() {
        let folder = std::env::temp_dir().join(format!("rollcall-export-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("cluster.rollcall");
        write(&path, b"one", false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, b"two", false).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"three", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&folder).unwrap();
    }
}
