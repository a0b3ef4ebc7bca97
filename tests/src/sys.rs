//! The machine below the lab: commands, network namespaces, processes in them. Knows nothing of the lab's plan.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_user::clock::Time;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps the names of network namespaces.
const NAMESPACES: &str = "/run/netns";

/// Runs `program` to its end and gives its standard output; the error names the command line and carries its standard error.
pub fn run(program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
    output(Command::new(program).args(args), None)
}

/// Runs `command`, with `input` on its standard input, as [`run`] does.
pub fn output(command: &mut Command, input: Option<&str>) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("could not start {command:?}"))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends without reading says why on its standard error.
        let _ = stdin.write_all(text.as_bytes());
    }
    let Output { status, stdout, stderr } =
        child.wait_with_output().with_context(|| format!("lost {command:?}"))?;
    let stderr = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "{command:?} failed: {status}\n{}", stderr.trim_end());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Where `program` lies on PATH or in the folders that only root's PATH has; the error says what to install.
pub fn find_program(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| {
            format!("the lab needs `{program}`, which is not installed here; hint: cargo xtask setup")
        })
}

/// Lets this process hold as many files as the system allows it: the lab's clients have hundreds of connections at once.
pub fn allow_many_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("cannot raise the limit of files")
}

/// The same, and where this process may, raises what the system allows it, and what it starts, to `wanted` at least.
pub fn allow_files(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        // Without CAP_SYS_RESOURCE, which not even every root has, it stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: Some(wanted) });
    }
    allow_many_files()
}

/// `program`, to be started where `name` is found at `address`, in a hosts file below `folder` that it alone sees: for programs that
/// take the name for TLS from the address that they are given.
pub fn with_host(program: &str, folder: &Path, name: &str, address: IpAddr) -> Result<Command> {
    let hosts = folder.join("hosts");
    fs::write(&hosts, format!("{address} {name}\n")).context("cannot write a hosts file")?;
    let mut command = Command::new(find_program("unshare")?);
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(&hosts);
    command.arg(find_program(program)?);
    Ok(command)
}

/// A network namespace that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace called `name`, whether or not it exists.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Every namespace of this machine that has a name.
    pub fn all() -> Vec<Self> {
        let Ok(folder) = fs::read_dir(NAMESPACES) else {
            return Vec::new();
        };
        let mut all: Vec<_> = folder
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(Self::named)
            .collect();
        all.sort();
        all
    }

    /// Makes it, with its loopback up and without IPv6, which most labs do not use.
    pub fn create(&self) -> Result<()> {
        run("ip", ["netns", "add", &self.name])?;
        self.ip("link set lo up")?;
        self.sysctl("net/ipv6/conf/all/disable_ipv6", "1").or_else(|error| {
            // A kernel without IPv6 has nothing to switch off.
            if Path::new("/proc/sys/net/ipv6").exists() { Err(error) } else { Ok(()) }
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// The number by which the kernel, and so the folder of an agent's pins, knows it.
    pub fn inode(&self) -> Result<u64> {
        let meta = fs::metadata(self.path());
        let meta = meta.with_context(|| format!("there is no network namespace {}", self.name))?;
        Ok(meta.ino())
    }

    /// Runs `ip` commands in it, one a line, all in one process.
    pub fn ip(&self, commands: &str) -> Result<String> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]);
        output(&mut ip, Some(commands)).with_context(|| format!("in {}:\n{commands}", self.name))
    }

    /// The number of an interface in it.
    pub fn interface(&self, name: &str) -> Result<u32> {
        let links = run("ip", ["-n", &self.name, "-json", "link", "show", "dev", name])?;
        let links: serde_json::Value = serde_json::from_str(&links).context("`ip -json` printed no JSON")?;
        let number = links[0]["ifindex"].as_u64().and_then(|number| u32::try_from(number).ok());
        number.with_context(|| format!("{} has no interface {name}", self.name))
    }

    /// Gives its packet filter further tables or rules, in nft's language.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let nft = output(self.command(find_program("nft")?).args(["-f", "-"]), Some(rules));
        nft.with_context(|| format!("in {}:\n{rules}", self.name)).map(drop)
    }

    /// `program`, to be started in it.
    ///
    /// By nsenter, because `ip netns exec` also mounts another /sys, where no BPF file system is.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Sets the network sysctl `key`, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let file = Path::new("/proc/sys").join(key);
        self.enter(|| fs::write(&file, value))?
            .with_context(|| format!("cannot set {key} to {value} in {}", self.name))
    }

    /// Runs `work` on a thread that is in this namespace. Sockets that it makes stay there, wherever they are used later.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let entered = scope.spawn(|| -> Result<T> {
                self.move_into()?;
                Ok(work())
            });
            match entered.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread, for the rest of its life, into this namespace.
    pub fn move_into(&self) -> Result<()> {
        let file = File::open(self.path());
        let file = file.with_context(|| format!("there is no network namespace {}", self.name))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network namespace {}", self.name))
    }

    /// The processes in it, this one never.
    pub fn pids(&self) -> Vec<u32> {
        let Ok(text) = run("ip", ["netns", "pids", &self.name]) else {
            return Vec::new();
        };
        let pids = text.lines().filter_map(|line| line.trim().parse().ok());
        pids.filter(|&pid| pid != std::process::id()).collect()
    }

    /// Ends every process in it by SIGKILL and waits until they are gone, 5 s at most.
    pub fn kill_all(&self) {
        let deadline = Time::now() + Duration::from_secs(5);
        while Time::now() < deadline {
            let pids = self.pids();
            if pids.iter().all(|&pid| is_zombie(pid)) {
                return;
            }
            for pid in pids {
                signal(pid, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends its processes and removes its name; the interfaces in it go with it.
    pub fn remove(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        self.kill_all();
        run("ip", ["netns", "del", &self.name]).map(drop)
    }
}

/// Sends `signal` to a process; one that has ended already needs none.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// When process `pid` started, in clock ticks since boot: with the id, what tells it from a later one of the same id.
/// `None` for one that is gone or only waits to be collected.
pub fn start_time(pid: u32) -> Option<u64> {
    let fields = stat_fields(pid)?;
    (fields.first()? != "Z").then_some(())?;
    fields.get(19)?.parse().ok()
}

/// Which figure of a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// What is resident (VmRSS).
    Resident,
    /// The most that ever was (VmHWM).
    Peak,
    /// What is resident, shared pages by their share (PSS).
    Proportional,
}

/// So much memory process `pid` has, in bytes.
pub fn memory(pid: u32, memory: Memory) -> Result<u64> {
    let (file, key) = match memory {
        Memory::Resident => ("status", "VmRSS:"),
        Memory::Peak => ("status", "VmHWM:"),
        Memory::Proportional => ("smaps_rollup", "Pss:"),
    };
    kilobytes(&format!("/proc/{pid}/{file}"), key)
}

/// The value of a line such as `VmRSS:  1234 kB`, in bytes.
pub fn kilobytes(file: &str, key: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("{file} has no {key}"))? << 10)
}

/// The processor time that process `pid` has used so far, all its threads together; `None` for one that is gone.
pub fn processor_time(pid: u32) -> Option<Duration> {
    /// A tick of /proc (proc_pid_stat(5)): a hundredth of a second on every Linux of today.
    const TICK: Duration = Duration::from_millis(10);
    let fields = stat_fields(pid)?;
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some(TICK * (ticks(11)? + ticks(12)?))
}

fn is_zombie(pid: u32) -> bool {
    start_time(pid).is_none()
}

/// The fields of /proc/PID/stat from the third on: what follows the program's name, which may hold anything.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    Some(after.split_whitespace().map(str::to_owned).collect())
}

/// A process that the lab started; ended by SIGKILL when dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    kept: bool,
}

impl Process {
    /// Starts `command` in `namespace`, with its output appended to the file `log`.
    ///
    /// It is in the namespace from its first instruction on, so a tear-down that looks there finds it.
    pub fn start(what: &str, namespace: &Namespace, command: &mut Command, log: &Path) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let (out, err) = open()
            .and_then(|out| Ok((out, open()?)))
            .with_context(|| format!("cannot write {}", log.display()))?;
        // In a process group of its own: ctrl-C on the terminal is for the lab, which ends this in its own order.
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = namespace
            .enter(|| command.spawn())?
            .with_context(|| format!("could not start {what}: {command:?}"))?;
        Ok(Self { what: what.to_owned(), child, log: log.to_owned(), ended: None, kept: false })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Sends it `signal`.
    pub fn signal(&self, signal_: Signal) {
        if self.ended.is_none() {
            signal(self.pid(), signal_);
        }
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Waits until it ends, `patience` at most; the error carries the end of its log.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Time::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Time::now() > deadline {
                bail!("{} did not end within {patience:?}\n{}", self.what, self.log_tail());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait(patience)
    }

    /// Leaves it running when this is dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// The end of what it wrote.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kept {
            self.kill();
        }
    }
}

/// The last lines of a log file, under a heading; for error messages.
pub fn tail(log: &Path) -> String {
    let mut text = String::new();
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4000)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    if let Ok(bytes) = read() {
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    format!("--- end of {name}\n{text}---")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_named_with_what_it_said() {
        let error = run("ls", ["/no/such/folder"]).unwrap_err().to_string();
        assert!(error.contains("\"ls\" \"/no/such/folder\""), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn processor_time_is_that_of_all_threads() {
        let own = || processor_time(std::process::id()).unwrap();
        let before = own();
        thread::spawn(move || while own() < before + Duration::from_millis(50) {}).join().unwrap();
        assert!(own() >= before + Duration::from_millis(50));
        assert_eq!(processor_time(u32::MAX), None);
    }

    #[test]
    fn memory_is_told_in_bytes_and_a_line_that_is_not_there_is_an_error() {
        let own = |kind| memory(std::process::id(), kind).unwrap();
        assert!(own(Memory::Peak) >= 1 << 20 && own(Memory::Resident) >= 1 << 20);
        assert!(own(Memory::Proportional) >= 1 << 10);
        assert!(memory(u32::MAX, Memory::Peak).is_err());
        assert!(kilobytes("/proc/meminfo", "NoSuchThing:").is_err());
    }

    #[test]
    fn a_process_is_told_from_a_later_one_of_the_same_id() {
        let own = start_time(std::process::id());
        assert!(own.is_some());
        assert_ne!(own, start_time(1));
        assert_eq!(start_time(u32::MAX), None);
    }
}
