//! Why a child is replaced, and why there is no proxy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::proxy::channel::{self, FrameError, RecordError};
use crate::proxy::spawn::SpawnError;
use crate::proxy::tls::TlsError;

/// Why a child is replaced.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It ended.
    #[error("it ended: {0}")]
    Exit(std::process::ExitStatus),
    /// It closed its end and lives on.
    #[error("it closed the channel")]
    Closed,
    /// Nothing came from it for too long.
    #[error("it was silent for too long")]
    Silent,
    /// More came than it can have to say.
    #[error("it sent too many records")]
    Flood,
    /// It sent what is no record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It spoke of a server that is not there.
    #[error("it spoke of a server that is not there")]
    NoSuchServer,
    /// It answered an order that was not given.
    #[error("it answered what it was not asked")]
    Unasked,
    /// It did not come to its end in time.
    #[error("it did not finish within the drain timeout")]
    Late,
    /// Nobody waits for it any more.
    #[error("it is not waited for")]
    Unwanted,
    /// The system refused.
    #[error("the channel failed")]
    System(#[source] io::Error),
}

/// An order that cannot be written: the child is not to blame, and cannot be told either.
impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::System(io::Error::other(error))
    }
}

/// Why there is no proxy. Nothing was started.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// The child's user or program.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The settings are too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not one socket for each address, or too many.
    #[error(
        "{listeners} listening sockets for {addresses} addresses; at most {} can be served",
        channel::MAX_LISTENERS
    )]
    Listeners {
        /// Sockets.
        listeners: usize,
        /// Addresses.
        addresses: usize,
    },
    /// The access log's file cannot be opened.
    #[error("cannot append to {path}; hint: `access_log` in node.toml names a file in a folder that exists", path = path.display())]
    Log {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hand-over socket cannot be made or reached.
    #[error("cannot use {path}; hint: the folder must exist and be root's", path = path.display())]
    Handover {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A proxy that was left behind does not hand its sockets over.
    #[error("the proxy behind {path} does not hand its listening sockets over; hint: another agent may be running; if not, `ss -ltnp` shows the proxy, kill it", path = path.display())]
    Adopt {
        /// The hand-over socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the agent's program before this one left does not fit, or its child cannot be waited for.
    #[error("cannot take up the proxy that the program before this one left")]
    TakeUp {
        /// Why.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; hint: `ss -ltnp 'sport = :{port}'` shows who has the port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Its port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// A certificate, key or CA file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate, key or CA file holds something else.
    #[error("cannot use {path}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TlsError,
    },
    /// A site names a farm that is not there.
    #[error("there is no farm `{farm}`")]
    NoFarm {
        /// The farm.
        farm: String,
    },
}

/// Why the proxy serves on what it served before.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A socket is missing, or the settings are too long.
    #[error(transparent)]
    Sockets(SupervisorError),
    /// The worker was locked in with other ports.
    #[error(
        "the proxy's worker may not connect to port {}: it was locked in before a server listened there; hint: `rollcall reload --replace-worker` has another worker take over",
        .0.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    )]
    Ports(Vec<u16>),
    /// The worker cannot serve what its agent could.
    #[error("the proxy's worker cannot serve these settings; hint: look at its log")]
    Settings,
    /// The sockets went astray.
    #[error("the listening sockets did not reach the proxy's worker; hint: `rollcall reload` again")]
    Unfit,
    /// The worker ended before it answered.
    #[error("the proxy's worker ended before it answered; hint: look at its log")]
    Died,
    /// Nobody keeps a worker.
    #[error("the proxy is being stopped")]
    Stopping,
}

/// Why no other worker took over.
#[derive(Debug, Error)]
#[error("no other worker took over, and the one that serves goes on: {0}")]
pub struct ReplaceError(pub(super) String);

impl SupervisorError {
    /// Whether the configuration, or a file that it names, is to blame.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Spawn(error) => error.is_configuration(),
            Self::Frame(_)
            | Self::Listeners { .. }
            | Self::Log { .. }
            | Self::Read { .. }
            | Self::Pem { .. }
            | Self::NoFarm { .. } => true,
            Self::Handover { .. } | Self::Adopt { .. } | Self::TakeUp { .. } | Self::Listen { .. } => false,
        }
    }
}
