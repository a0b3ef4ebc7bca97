//! What a lab has on this machine, and its removal: on success, failure and panic (by `Drop` of the lab), on ctrl-C and
//! SIGTERM, and by the next lab where its owner was killed. Knows nothing of what the namespaces are for.
//!
//! Everything carries the lab's name, `rc-PID-N`: namespaces `rc-PID-N-ROLE`, the folder of its files, and, by way of the
//! inode numbers of its namespaces, the agents' pins.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::sys::{Namespace, output, run, start_time};

/// One folder for each lab.
const FOLDER: &str = "/run/rollcall-lab";
/// The BPF file system, one for the whole machine.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Where agents lock their interfaces, in files called lock-INODE-IFINDEX.
const LOCKS: &str = "/run/rollcall";
/// Where agents pin their programs and maps, in folders called INODE-IFINDEX.
const PINS: &str = "/sys/fs/bpf/rollcall";
/// In a lab's folder: the start time of its owner, which with the id in the lab's name says whether the owner lives.
const OWNER: &str = "owner";
/// In a lab's folder: it is to outlive its owner.
const KEPT: &str = "kept";

/// The labs of this process that stand, for the signal handler.
static STANDING: Mutex<BTreeMap<String, Arc<Estate>>> = Mutex::new(BTreeMap::new());

/// What one lab has on this machine.
#[derive(Debug)]
pub struct Estate {
    name: String,
    /// Its namespaces. Each is held open, so that no other can get its inode number, by which pins and processes are told
    /// to be this lab's, before these are looked for.
    namespaces: Mutex<BTreeMap<Namespace, Held>>,
}

#[derive(Debug)]
struct Held {
    inode: u64,
    _open: File,
}

impl Held {
    fn hold(namespace: &Namespace) -> Result<Self> {
        let open = File::open(namespace.path());
        let open = open.with_context(|| format!("cannot open {}", namespace.path().display()))?;
        Ok(Self { inode: open.metadata()?.ino(), _open: open })
    }
}

impl Estate {
    /// A new, empty estate with a name that no other has, after the removal of what killed owners left.
    pub fn found() -> Result<Arc<Self>> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        remove_orphans();
        watch_signals()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("rc-{}-{number}", std::process::id());
        let estate = Arc::new(Self { name: name.clone(), namespaces: Mutex::default() });
        fs::create_dir_all(estate.folder())
            .with_context(|| format!("cannot make {}; the lab needs root", estate.folder().display()))?;
        let own = start_time(std::process::id()).unwrap_or(0);
        fs::write(estate.folder().join(OWNER), own.to_string()).context("cannot write the lab's owner")?;
        locked(&STANDING).insert(name, Arc::clone(&estate));
        Ok(estate)
    }

    /// `rc-PID-N`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For every file of the lab.
    pub fn folder(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Makes the namespace `rc-PID-N-ROLE`.
    pub fn namespace(&self, role: &str) -> Result<Namespace> {
        let namespace = Namespace::named(format!("{}-{role}", self.name));
        namespace.create()?;
        let held = Held::hold(&namespace)?;
        // A namespace that is gone had this number before: what is still called after it is nobody's.
        remove_traces(held.inode);
        locked(&self.namespaces).insert(namespace.clone(), held);
        Ok(namespace)
    }

    /// Removes one namespace with its processes and their pins, as when a machine loses its power.
    pub fn remove_namespace(&self, namespace: &Namespace) -> Result<()> {
        namespace.remove()?;
        if let Some(held) = locked(&self.namespaces).remove(namespace) {
            remove_traces(held.inode);
        }
        Ok(())
    }

    /// Lets it outlive this process: only [`clean`] removes it.
    pub fn keep(&self) -> Result<()> {
        fs::write(self.folder().join(KEPT), "").context("cannot mark the lab as kept")?;
        locked(&STANDING).remove(&self.name);
        Ok(())
    }

    /// Ends its processes and removes its namespaces, pins and files. Does nothing the second time.
    pub fn tear_down(&self) {
        for (namespace, held) in &*locked(&self.namespaces) {
            if let Err(error) = namespace.remove() {
                eprintln!("warning: {error:#}");
            }
            remove_traces(held.inode);
        }
        for pin in self.own_pins() {
            let _ = fs::remove_file(pin);
        }
        for mounted in self.mounts() {
            if let Err(error) = run("umount", [&mounted]) {
                eprintln!("warning: {error:#}");
            }
        }
        if self.folder().exists()
            && let Err(error) = fs::remove_dir_all(self.folder())
        {
            eprintln!("warning: cannot remove {}: {error}", self.folder().display());
        }
        // Succeeds once the last lab is gone.
        let _ = fs::remove_dir(FOLDER);
        locked(&STANDING).remove(&self.name);
    }

    /// Pins of the lab's own, which last only as long as it takes to attach a program.
    fn own_pins(&self) -> impl Iterator<Item = PathBuf> {
        let prefix = format!("{}-", self.name);
        let all = fs::read_dir(BPFFS).into_iter().flatten().flatten();
        all.filter(move |entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
    }

    /// Mounts a disk of so many bytes on `folder`, which is one of the lab's and is made.
    pub fn disk(&self, folder: &Path, bytes: usize) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let size = format!("size={bytes},mode=755");
        let mut mount = Command::new("mount");
        output(mount.args(["-t", "tmpfs", "-o", &size, self.name()]).arg(folder), None).map(drop)
    }

    /// Where disks of the lab's are mounted.
    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let folder = format!("{}/", self.folder().display());
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        places.filter(|place| place.starts_with(&folder)).map(str::to_owned).collect()
    }

    /// What of it is still on this machine, a line each; nothing after [`Estate::tear_down`].
    pub fn leftovers(&self) -> Vec<String> {
        let inodes: BTreeSet<_> = locked(&self.namespaces).values().map(|held| held.inode).collect();
        let prefix = format!("{}-", self.name);
        let mut left: Vec<_> = Namespace::all()
            .into_iter()
            .filter(|namespace| namespace.name().starts_with(&prefix))
            .map(|namespace| format!("network namespace {}", namespace.name()))
            .collect();
        for inode in &inodes {
            left.extend(pins_of(*inode).map(|path| format!("pins {}", path.display())));
            left.extend(locks_of(*inode).map(|path| format!("lock {}", path.display())));
        }
        left.extend(self.own_pins().map(|path| format!("pin {}", path.display())));
        left.extend(processes_in(&inodes));
        if self.folder().exists() {
            left.push(format!("folder {}", self.folder().display()));
        }
        left
    }
}

/// Removes every lab whose owner is gone, kept ones too, and gives their names.
pub fn clean() -> Vec<String> {
    let gone: Vec<_> = known_labs().into_iter().filter(|lab| !owner_lives(lab)).collect();
    for lab in &gone {
        remove(lab);
    }
    gone
}

fn remove_orphans() {
    for lab in known_labs() {
        if !owner_lives(&lab) && !Path::new(FOLDER).join(&lab).join(KEPT).exists() {
            eprintln!("removing the lab {lab}, whose owner was killed");
            remove(&lab);
        }
    }
}

/// The names of all labs that have a folder or a namespace.
fn known_labs() -> BTreeSet<String> {
    let folders = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let folders = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let namespaces = Namespace::all();
    let namespaces = namespaces.iter().filter_map(|namespace| {
        let mut parts = namespace.name().splitn(4, '-');
        let lab = [parts.next()?, parts.next()?, parts.next()?].join("-");
        parts.next().map(|_role| lab)
    });
    folders.chain(namespaces).filter(|name| owner_pid(name).is_some()).collect()
}

/// The PID in `rc-PID-N`, or `None` for names that are no lab's.
fn owner_pid(lab: &str) -> Option<u32> {
    let (pid, number) = lab.strip_prefix("rc-")?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn owner_lives(lab: &str) -> bool {
    let Some(now) = owner_pid(lab).and_then(start_time) else {
        return false;
    };
    let recorded = fs::read_to_string(Path::new(FOLDER).join(lab).join(OWNER));
    // A lab that is just being made or removed has a living owner but no record yet.
    recorded.map_or(true, |text| text.parse() == Ok(now))
}

fn remove(lab: &str) {
    let prefix = format!("{lab}-");
    let namespaces = Namespace::all()
        .into_iter()
        .filter(|namespace| namespace.name().starts_with(&prefix))
        .filter_map(|namespace| Some((namespace.clone(), Held::hold(&namespace).ok()?)))
        .collect();
    let estate = Estate { name: lab.to_owned(), namespaces: Mutex::new(namespaces) };
    estate.tear_down();
}

fn pins_of(inode: u64) -> impl Iterator<Item = PathBuf> {
    let prefix = format!("{inode}-");
    let all = fs::read_dir(PINS).into_iter().flatten().flatten();
    all.map(|entry| entry.path())
        .filter(move |path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
}

/// Locks of killed agents: files that lock nothing any more.
fn locks_of(inode: u64) -> impl Iterator<Item = PathBuf> {
    let prefix = format!("lock-{inode}-");
    let all = fs::read_dir(LOCKS).into_iter().flatten().flatten();
    all.filter(move |entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
}

/// Removes what agents in the namespace left outside it.
fn remove_traces(inode: u64) {
    for lock in locks_of(inode) {
        let _ = fs::remove_file(lock);
    }
    for folder in pins_of(inode) {
        // std::fs::remove_dir_all needs O_DIRECTORY tricks that bpffs has too, but pins may vanish below it meanwhile.
        if let Err(error) = fs::remove_dir_all(&folder)
            && folder.exists()
        {
            eprintln!("warning: cannot remove {}: {error}", folder.display());
        }
    }
    // The common parent goes with the last of them; another lab may still use it.
    let _ = fs::remove_dir(PINS);
}

/// Every process of this machine that is in one of the namespaces.
fn processes_in(inodes: &BTreeSet<u64>) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let inode = fs::metadata(entry.path().join("ns/net")).ok()?.ino();
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            inodes.contains(&inode).then(|| format!("process {pid} ({})", command.trim()))
        })
        .collect()
}

/// From the first lab on, ctrl-C and SIGTERM tear all labs of this process down and end it with status 130.
fn watch_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = Signals::new([SIGINT, SIGTERM]).map(|mut signals| {
            std::thread::spawn(move || {
                if signals.forever().next().is_some() {
                    let standing = locked(&STANDING).clone();
                    for estate in standing.values() {
                        estate.tear_down();
                    }
                    std::process::exit(130);
                }
            });
        });
    });
    result.context("cannot watch for signals")
}

/// Held by a lab with load: at most one of all processes at once, or they would measure each other.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

impl Turn {
    /// Waits until no other lab with load stands.
    pub fn wait() -> Result<Self> {
        let path = Path::new("/run/rollcall-lab.lock");
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.with_context(|| format!("cannot open {}; the lab needs root", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).context("cannot wait for other labs")?;
        Ok(Self { _file: file })
    }
}

/// Mounts the BPF file system where it is not mounted.
pub fn mount_bpffs() -> Result<()> {
    let kind = run("stat", ["--file-system", "--format=%T", BPFFS])?;
    if kind.trim() != "bpf_fs" {
        run("mount", ["-t", "bpf", "bpf", BPFFS])?;
    }
    Ok(())
}

/// A lock that a panic of another thread does not spoil: what it guards is valid after every step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_name_an_owner() {
        assert_eq!(owner_pid("rc-123-4"), Some(123));
        for foreign in ["rc-123", "rc-x-4", "rc-123-4-arr1", "cni-123-4", "rc--1"] {
            assert_eq!(owner_pid(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn this_process_owns_its_labs_and_a_dead_one_owns_nothing() {
        assert!(owner_lives(&format!("rc-{}-1", std::process::id())));
        assert!(!owner_lives("rc-4294967295-1"));
    }
}
