//! How a child of the agent is started: as a user of its own, with nothing of the agent's but one end of a socket pair.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use aws_lc_rs::digest::{Context, SHA256};
use thiserror::Error;

use super::child::Child;
use crate::sys::signals::unblock_in;

/// Whom a child runs as; never root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id, not 0.
    pub uid: u32,
    /// Group id, not 0.
    pub gid: u32,
}

impl Account {
    /// Looks `user` up: a name of /etc/passwd, or a number, which needs no entry there (its group is then the same number).
    pub fn find(user: &str) -> Result<Self, SpawnError> {
        match fs::read_to_string("/etc/passwd") {
            Ok(passwd) => Self::among(&passwd, user),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::among("", user),
            Err(error) => Err(SpawnError::Passwd(error)),
        }
    }

    fn among(passwd: &str, user: &str) -> Result<Self, SpawnError> {
        let entry = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (name == user || uid == user).then_some((uid, gid))
        });
        let user_owned = || user.to_owned();
        let (uid, gid) = match entry {
            Some(entry) => entry,
            None if user.parse::<u32>().is_ok() => (user, user),
            None => return Err(SpawnError::NoUser { user: user_owned() }),
        };
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
            return Err(SpawnError::NoUser { user: user_owned() });
        };
        // u32::MAX is "no change" to the kernel.
        if [uid, gid].iter().any(|id| [0, u32::MAX].contains(id)) {
            return Err(SpawnError::Root { user: user_owned() });
        }
        Ok(Self { uid, gid })
    }
}

/// A program that children are started from.
///
/// It is opened once, by the agent, and started through that descriptor: the child's user need not be able to walk the path
/// (the kernel does not walk it again), and an upgrade of the file does not mix versions. The file itself must be executable
/// for all.
#[derive(Debug)]
pub struct Program {
    file: File,
    path: PathBuf,
    digest: OnceLock<[u8; 32]>,
}

impl Program {
    /// Opens the program at `path`; `/proc/self/exe` is this very one.
    pub fn open(path: &Path) -> Result<Self, SpawnError> {
        let path = path.to_owned();
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path, digest: OnceLock::new() }),
            Err(source) => Err(SpawnError::Start { path, source }),
        }
    }

    /// The digest of its text, once `take_digest` has found it out.
    pub fn digest(&self) -> Option<[u8; 32]> {
        self.digest.get().copied()
    }

    /// The digest of its text, by which two programs are known to be the same wherever they lie. Reads all of it. `None`: it cannot
    /// be read.
    pub fn take_digest(&self) -> Option<[u8; 32]> {
        if let Some(digest) = self.digest() {
            return Some(digest);
        }
        let (mut context, mut chunk, mut offset) = (Context::new(&SHA256), vec![0; 256 << 10], 0);
        loop {
            match self.file.read_at(&mut chunk, offset) {
                Ok(0) => break,
                Ok(length) => {
                    context.update(&chunk[..length]);
                    offset += u64::try_from(length).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let digest = context.finish();
        Some(*self.digest.get_or_init(|| digest.as_ref().try_into().unwrap_or_default()))
    }

    /// Starts `rollcall <subcommand>` as `account`, without environment and groups, in `/`, in a process group of its own (a
    /// terminal's ctrl-C is for the agent), with `channel` as standard input and `log` as standard output. Within a Tokio runtime.
    pub fn start(
        &self,
        subcommand: &str,
        account: Account,
        channel: OwnedFd,
        log: Option<OwnedFd>,
    ) -> Result<Child, SpawnError> {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command
            .arg0("rollcall")
            .arg(subcommand)
            .env_clear()
            .current_dir("/")
            .uid(account.uid)
            .gid(account.gid)
            .process_group(0)
            .stdin(Stdio::from(channel))
            .stdout(log.map_or_else(Stdio::inherit, Stdio::from));
        let started = unblock_in(&mut command).spawn().and_then(|started| Child::of(started.id()));
        started.map_err(|source| SpawnError::Start { path: self.path.clone(), source })
    }
}

impl SpawnError {
    /// Whether the configuration is to blame.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::NoUser { .. } | Self::Root { .. } => true,
            Self::Passwd(_) | Self::Start { .. } => false,
        }
    }
}

/// Why no child can be started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// /etc/passwd cannot be read.
    #[error("cannot read /etc/passwd")]
    Passwd(#[source] io::Error),
    /// The user does not exist.
    #[error(
        "there is no user `{user}`, whom a child of the agent is to run as; hint: make it: useradd --system --no-create-home --shell /usr/sbin/nologin {user}; or name another one as `proxy_user` or `peer_user` in node.toml"
    )]
    NoUser {
        /// As configured.
        user: String,
    },
    /// The user is root, or has root's group.
    #[error(
        "a child that reads bytes of strangers must not run as `{user}`, which is root or of root's group; hint: useradd --system --no-create-home --shell /usr/sbin/nologin rollcall-proxy"
    )]
    Root {
        /// As configured.
        user: String,
    },
    /// The program cannot be opened or started.
    #[error("cannot start {path} as another user; hint: the file must be executable for all, and the agent root or have CAP_SETUID and CAP_SETGID", path = path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nrollcall-proxy:x:990:985::/:/usr/sbin/nologin\nodd:x:7:0::/:\n";

    #[test]
    fn a_user_is_a_name_or_a_number_and_never_root() {
        let account = |uid, gid| Some(Account { uid, gid });
        for (user, wanted) in [
            ("rollcall-proxy", account(990, 985)),
            ("990", account(990, 985)),
            ("64750", account(64750, 64750)),
            ("root", None),
            ("0", None),
            ("odd", None),
            ("nobody-there", None),
            ("", None),
            ("4294967295", None),
            ("-1", None),
        ] {
            assert_eq!(Account::among(PASSWD, user).ok(), wanted, "{user}");
        }
    }

    #[test]
    fn a_missing_user_comes_with_the_command_that_makes_it() {
        let error = Account::among(PASSWD, "rollcall").unwrap_err().to_string();
        assert!(
            error.contains("useradd --system --no-create-home --shell /usr/sbin/nologin rollcall"),
            "{error}"
        );
    }
}
