//! An upgrade in place: another program takes this one's place in the same process, and goes on with the XDP program, maps,
//! sockets, locks, children and buckets, of which none moves.
//!
//! ```text
//! request -> the program is examined -> the others agree to wait -> the cluster thread stops -> exec
//!            refused: all as before     not in time: all as before                               |
//! heartbeats <- control sockets <- proxy adopted <- XDP program replaced <- cluster thread <-----+
//! ```
//! If the new program cannot take up what was left it starts as after a kill: over what is pinned, with a share of its own again
//! as soon as the others give it one.

mod candidate;
mod passage;
mod renewal;
mod state;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;

pub(super) use self::candidate::Candidate;
pub(super) use self::passage::Preparing;
pub use self::state::FORMAT;
use self::state::{ProxyState, State};
use crate::clock::Time;
use crate::control::api::UpgradeStatus;
use crate::control::server::Sockets;
use crate::dataplane::link::{Interface, Lock, RunDir};
use crate::proxy::supervisor::Left;
use crate::sys::image::{self, Inherited};

/// An upgrade that an operator wants, found possible.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) candidate: Candidate,
    /// Where to say why it is not done after all.
    pub(super) refused: oneshot::Sender<String>,
}

/// How long the other nodes have to confirm that they wait.
pub(super) const CONFIRM: Duration = Duration::from_secs(3);

/// How long the proxy's supervisor may take to let go of its child: one that is just being started is left to itself.
pub(super) const LET_GO: Duration = Duration::from_millis(200);

/// All that the next program gets, still open.
#[derive(Debug)]
pub struct Departure {
    /// Nobody is told that it is refused any more.
    pub(super) upgrade: Upgrade,
    pub(super) cluster: Vec<u8>,
    pub(super) suspended_at: Time,
    /// How often the cluster NIC had lost its carrier by then.
    pub(super) carrier_losses: u32,
    pub(super) proxy: Option<Left>,
    pub(super) lock: Lock,
    pub(super) run_dir: RunDir,
    pub(super) sockets: Arc<Sockets>,
    pub(super) count: u32,
    /// The next program is to read the configuration again.
    pub(super) reload: bool,
    /// The configuration is another: the cluster thread begins anew.
    pub(super) renewed: bool,
}

impl Departure {
    /// Puts the new program in this one's place; if the system refuses, this very one again, which then goes on. Returns why
    /// neither could be done.
    pub fn depart(self) -> anyhow::Error {
        let candidate = &self.upgrade.candidate;
        let error = match self.enter(candidate, &candidate.path, None) {
            Ok(never) => match never {},
            Err(error) => error.context(format!("cannot run {}", candidate.path.display())),
        };
        let own = File::open(own_program()).context("cannot open this program");
        let back = own.and_then(|own| self.enter(own, &program_file(), Some(format!("{error:#}"))));
        match back {
            Ok(never) => match never {},
            Err(again) => error.context(format!("nor this program again ({again:#})")),
        }
    }

    fn enter(&self, program: impl AsFd, file: &Path, failed: Option<String>) -> Result<Never> {
        let state = self.state(file, failed).context("cannot keep open what the next program needs")?;
        let file = state.write().context("cannot write down what the next program needs")?;
        let number = image::keep(file.as_fd())?;
        let environment = std::env::vars_os().chain([(VARIABLE.into(), OsString::from(number.to_string()))]);
        Err(image::replace(program.as_fd(), std::env::args_os(), environment).into())
    }

    fn state(&self, program: &Path, failed: Option<String>) -> Result<State> {
        let (run_dir, made_run_dir) = self.run_dir.descriptor();
        let (control, view) = self.sockets.descriptors();
        let proxy = |left: &Left| {
            let descriptors = left.descriptors().into_iter().map(image::keep).collect::<Result<_, _>>()?;
            Ok::<_, std::io::Error>(ProxyState { words: left.words(), descriptors })
        };
        Ok(State {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: program.to_owned(),
            count: self.count,
            suspended_at: self.suspended_at.as_nanos(),
            carrier_losses: self.carrier_losses,
            failed,
            cluster: String::from_utf8(self.cluster.clone())?,
            proxy: self.proxy.as_ref().map(proxy).transpose()?,
            lock: image::keep(self.lock.descriptor())?,
            run_dir: image::keep(run_dir)?,
            made_run_dir,
            control: image::keep(control)?,
            view: view.map(image::keep).transpose()?,
            reload: self.reload,
            renewed: self.renewed,
        })
    }
}

/// Nothing is of this type: what gives one does not return.
enum Never {}

/// What the program before this one left.
#[derive(Debug)]
pub struct Arrival {
    state: State,
    inherited: Inherited,
}

impl Arrival {
    /// Looks whether this process ran another program before. For the first line of a program: see `Inherited`.
    pub fn find() -> Option<Result<Self>> {
        let number = image::take_variable(VARIABLE)?;
        let find = || {
            let mut inherited = Inherited::at_start()?;
            let number = number.to_str().and_then(|number| number.parse().ok());
            let number = number.context("the number of its state is none")?;
            let file = inherited.take(number).context("its state is not open")?;
            // For `ps`: the program was started by a number.
            rustix::thread::set_name(c"rollcall")?;
            Ok(Self { state: State::read(file)?, inherited })
        };
        Some(find())
    }

    /// The file that this program came from.
    pub(super) fn program(&self) -> &Path {
        &self.state.program
    }

    /// How many upgrades this process has seen.
    pub(super) fn count(&self) -> u32 {
        self.state.count
    }

    /// The proxy's process id, if there is a proxy.
    pub(super) fn child(&self) -> Option<u32> {
        self.state.proxy.as_ref().and_then(|proxy| proxy.words.child())
    }

    /// Takes everything over. What is not taken is closed with the result.
    pub(super) fn unpack(mut self, run_dir: &Path, interface: &Interface) -> Result<Legacy> {
        let State { lock, run_dir: folder, made_run_dir, control, view, .. } = self.state;
        let lock = Lock::take_up(interface, self.take(lock)?);
        let folder = RunDir::take_up(run_dir, made_run_dir, self.take(folder)?);
        let control = self.take(control)?;
        let view = view.map(|view| self.take(view)).transpose()?;
        let proxy = match self.state.proxy.take() {
            Some(ProxyState { words, descriptors }) => {
                let descriptors = descriptors.into_iter().map(|number| self.take(number));
                let descriptors = descriptors.collect::<Result<Vec<_>>>()?;
                Some(Left::take_up(words, descriptors, run_dir)?)
            }
            None => None,
        };
        Ok(Legacy {
            lock,
            run_dir: folder,
            sockets: Sockets::take_up(run_dir, control, view)?,
            proxy,
            cluster: self.state.cluster,
            upgrade: UpgradeStatus {
                count: self.state.count,
                program: self.state.program.display().to_string(),
                from: self.state.version,
                silent_ms: 0,
                failed: self.state.failed,
            },
            suspended_at: Time::from_nanos(self.state.suspended_at),
            carrier_losses: self.state.carrier_losses,
            reload: self.state.reload,
            renewed: self.state.renewed,
        })
    }

    fn take(&mut self, number: RawFd) -> Result<OwnedFd> {
        self.inherited.take(number).with_context(|| format!("descriptor {number} is not open"))
    }
}

/// The same, open again.
#[derive(Debug)]
pub(super) struct Legacy {
    pub(super) lock: Lock,
    pub(super) run_dir: RunDir,
    pub(super) sockets: Sockets,
    pub(super) proxy: Option<Left>,
    pub(super) cluster: String,
    pub(super) upgrade: UpgradeStatus,
    pub(super) suspended_at: Time,
    pub(super) carrier_losses: u32,
    pub(super) reload: bool,
    pub(super) renewed: bool,
}

/// By which this very program is started again, whatever becomes of its file.
pub(crate) fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// The file that this program was started from, also if there is another or none by now.
pub(super) fn program_file() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| own_program())
}

/// The environment variable by which a program finds what another left: the number of its descriptor.
const VARIABLE: &str = "ROLLCALL_RESUME";
