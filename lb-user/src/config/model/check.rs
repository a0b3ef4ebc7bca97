//! Tests of the services behind port rules.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A test of the service behind a port rule on this node. Each node tests its own service; one whose test fails hands over
/// its share of this rule alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// Time from one test to the next, 100 ms to 1 h.
    pub interval: Duration,
    /// Longest time for one test, 10 ms to 60 s.
    pub timeout: Duration,
    /// Failures in a row that make the service unhealthy, 1..=100.
    pub failures: u8,
    /// Successes in a row that make it healthy again, 1..=100.
    pub successes: u8,
}

/// What a test of a service tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// To connect.
    Tcp {
        /// Where.
        address: SocketAddr,
    },
    /// To ask for a page by HTTP/1.1 without TLS.
    Http {
        /// Where.
        address: SocketAddr,
        /// The path that is asked for, with a leading `/`.
        path: String,
        /// The request's Host.
        host: String,
        /// The status of a good answer, 100..=599.
        status: u16,
        /// What a good answer's body contains; empty: anything.
        body: String,
    },
    /// To run a program that ends with exit code 0; no shell is involved.
    Command {
        /// The program, by its path from the root.
        program: PathBuf,
        /// What it is given; each is free of spaces and control characters.
        arguments: Vec<String>,
    },
}

impl std::fmt::Display for CheckKind {
    /// In a few words: `tcp 192.168.50.8:25`, `http 127.0.0.1:80/up`, `command /usr/local/bin/ok`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { address } => write!(f, "tcp {address}"),
            Self::Http { address, path, .. } => write!(f, "http {address}{path}"),
            Self::Command { program, .. } => write!(f, "command {}", program.display()),
        }
    }
}
