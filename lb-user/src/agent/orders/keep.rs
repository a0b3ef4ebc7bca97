//! What operators told this node, kept in `mandate.json` in the state folder for the next start of its agent. Rules stand there by
//! name, because their owner tables are numbered anew with each configuration.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::cluster::operate::{Intent, Mandate, TableMandate};
use crate::config::model::{InitialState, PortRule, Priority};
use crate::dataplane::plan::tables_of;

/// The file's name in the state folder.
const FILE: &str = "mandate.json";

/// The number of this format.
const VERSION: u32 = 1;

/// Longest file, bytes: some ten times that of the most rules there can be.
pub(in crate::agent) const LONGEST: u64 = 256 << 10;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    intent: Intent,
    /// The host priority that an operator set.
    priority: Option<Priority>,
    /// The load weight that an operator set.
    weight: Option<u8>,
    /// By rule, as `tcp 443`; those that nobody told anything are not there.
    rules: BTreeMap<String, TableMandate>,
}

impl Kept {
    fn of(mandate: &Mandate, rules: &[PortRule]) -> Self {
        let told = |(rule, table): (&PortRule, Option<usize>)| {
            let told = mandate.table(table?);
            (told != TableMandate::default()).then(|| (rule.to_string(), told))
        };
        Self {
            version: VERSION,
            intent: mandate.intent,
            priority: mandate.rank,
            weight: mandate.weight,
            rules: rules.iter().zip(tables_of(rules)).filter_map(told).collect(),
        }
    }

    /// What it means with these rules, and what of it no longer means anything.
    fn mandate(mut self, rules: &[PortRule]) -> (Mandate, Vec<String>) {
        let tables_of = tables_of(rules);
        let count = tables_of.iter().flatten().max().map_or(0, |last| last + 1);
        let alone = |table: usize| tables_of.iter().flatten().filter(|its| **its == table).count() == 1;
        let mut tables = vec![TableMandate::default(); count];
        for (rule, table) in rules.iter().zip(&tables_of) {
            // What was told one rule alone is not meant for those that move with it now.
            let Some(table) = table.filter(|table| alone(*table)) else { continue };
            if let (Some(told), Some(place)) = (self.rules.remove(&rule.to_string()), tables.get_mut(table)) {
                *place = told;
            }
        }
        if tables.iter().all(|told| *told == TableMandate::default()) {
            tables.clear();
        }
        let mandate = Mandate { intent: self.intent, rank: self.priority, weight: self.weight, tables };
        (mandate, self.rules.into_keys().collect())
    }

    /// Whether every value is one that an operator could have given.
    fn is_sound(&self) -> bool {
        let weights = self.rules.values().map(|told| told.weight).chain([self.weight]);
        self.version == VERSION
            && self.priority.is_none_or(|rank| Priority::new(rank.number()).is_some())
            && self.rules.values().all(|told| told.intent != Intent::Suspended)
            && weights.flatten().all(|weight| weight <= 100)
    }
}

/// How a node begins: `restarted`: its operator wanted its agent to start anew, which changes nothing.
pub(in crate::agent) fn begin(
    state_dir: &Path,
    initial: InitialState,
    restarted: bool,
    rules: &[PortRule],
) -> Mandate {
    let (left, lost) = read(state_dir).unwrap_or_default().mandate(rules);
    let as_before = restarted || initial == InitialState::AsBefore;
    if as_before {
        for rule in lost {
            warn!(
                "what was told this node for the rule {rule} is dropped: the rule is gone, or moves with others now"
            );
        }
    }
    let intent = match initial {
        _ if as_before => return left,
        // A suspension outlives everything but its end.
        _ if left.intent == Intent::Suspended => Intent::Suspended,
        InitialState::AsBefore | InitialState::Started => Intent::Started,
        InitialState::Stopped => Intent::Stopped,
        InitialState::Suspended => Intent::Suspended,
    };
    Mandate { intent, ..Mandate::default() }
}

/// What is kept; `None` where nothing is, or nothing that can be used, which is set aside.
fn read(state_dir: &Path) -> Option<Kept> {
    let path = state_dir.join(FILE);
    let mut bytes = Vec::new();
    let whole = File::open(&path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    match whole {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(%error, path = %path.display(), "cannot read what operators told this node; it begins as if they had told nothing");
            return None;
        }
        Ok(_) => {}
    }
    let kept = Some(&bytes).filter(|bytes| bytes.len() as u64 <= LONGEST);
    let kept = kept.and_then(|bytes| serde_json::from_slice(bytes).ok()).filter(Kept::is_sound);
    if kept.is_none() {
        let bad = path.with_extension("json.bad");
        warn!(
            "{} is damaged, or of another version: it is set aside as {}, and this node begins as if nobody had told it anything",
            path.display(),
            bad.display()
        );
        if let Err(error) = fs::rename(&path, &bad) {
            warn!(%error, "it could not be set aside");
        }
    }
    kept
}

/// Keeps what operators tell this node, as it comes. Only the latest counts.
#[derive(Debug)]
pub(in crate::agent) struct Keeper {
    latest: watch::Sender<Option<Mandate>>,
    kept: watch::Receiver<Option<Mandate>>,
}

/// Writes what a `Keeper` is given.
#[derive(Debug)]
pub(in crate::agent) struct Writer {
    latest: watch::Receiver<Option<Mandate>>,
    kept: watch::Sender<Option<Mandate>>,
    state_dir: PathBuf,
    rules: Vec<PortRule>,
}

impl Keeper {
    /// The writer is to be run beside it.
    pub(in crate::agent) fn new(state_dir: PathBuf, rules: Vec<PortRule>) -> (Self, Writer) {
        let (latest, wanted) = watch::channel(None);
        let (done, kept) = watch::channel(None);
        (Self { latest, kept }, Writer { latest: wanted, kept: done, state_dir, rules })
    }

    pub(in crate::agent) fn keep(&self, mandate: Mandate) {
        self.latest.send_replace(Some(mandate));
    }

    /// Waits until the latest is on disk, or could not be brought there.
    pub(in crate::agent) async fn settled(&self) {
        let mut kept = self.kept.clone();
        // A writer that has ended keeps nothing more.
        let _ = kept.wait_for(|kept| *kept == *self.latest.borrow()).await;
    }
}

impl Writer {
    /// Until its keeper is gone.
    pub(in crate::agent) async fn run(mut self) {
        while self.latest.changed().await.is_ok() {
            let Some(mandate) = self.latest.borrow_and_update().clone() else { continue };
            let (state_dir, kept) = (self.state_dir.clone(), Kept::of(&mandate, &self.rules));
            let written = tokio::task::spawn_blocking(move || write(&state_dir, FILE, &kept)).await;
            if let Err(error) = written.map_err(io::Error::other).flatten() {
                warn!(
                    "cannot keep in {} what the operator told this node: {error}; it counts until this agent ends",
                    self.state_dir.join(FILE).display()
                );
            }
            self.kept.send_replace(Some(mandate));
        }
    }
}

/// Writes a file of the state folder whole or not at all, also if the power fails.
pub(in crate::agent) fn write(state_dir: &Path, name: &str, kept: &impl Serialize) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(state_dir)?;
    let (path, new) = (state_dir.join(name), state_dir.join(format!("{name}.new")));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    serde_json::to_writer_pretty(&mut file, kept)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests;
