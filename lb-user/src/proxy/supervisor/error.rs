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
    /// The system refused.
    #[error("the channel failed")]
    System(#[source] io::Error),
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

impl SupervisorError {
    /// Whether the configuration, or a file that it names, is to blame.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Spawn(error) => error.is_configuration(),
            Self::Frame(_)
            | Self::Listeners { .. }
            | Self::Read { .. }
            | Self::Pem { .. }
            | Self::NoFarm { .. } => true,
            Self::Handover { .. } | Self::Adopt { .. } | Self::TakeUp { .. } | Self::Listen { .. } => false,
        }
    }
}
