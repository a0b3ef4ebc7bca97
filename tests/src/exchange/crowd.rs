//! Many users at once who check that every answer is theirs: tests/python/crowd.py. What they do is written there.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Exchange;
use super::background::Background;

/// A crowd at work.
#[derive(Debug)]
pub struct Crowd {
    clients: Background,
    /// It goes on until this file exists.
    over: PathBuf,
}

impl Crowd {
    /// Has every user ask over two connections at a time, one after the other: so many pairs of them at least, and further ones
    /// until [`Crowd::finish`].
    pub fn start(exchange: &Exchange, connections: usize) -> Result<Self> {
        Self::start_with(exchange, connections, &[])
    }

    /// The same with these arguments more.
    pub fn start_with(exchange: &Exchange, connections: usize, arguments: &[&str]) -> Result<Self> {
        let over = exchange.cluster.lab.folder().join("crowd.over");
        let mut command = exchange.client("crowd.py")?;
        command.args(["--connections", &connections.to_string(), "--seed", SEED, "--until"]).arg(&over);
        command.args(arguments);
        Ok(Self { clients: Background::start(exchange, "the crowd", &mut command)?, over })
    }

    /// Waits until all have done what they are to do, and gives what they saw.
    pub fn finish(self) -> Result<Tally> {
        File::create(&self.over).context("cannot end the crowd")?;
        self.clients.finish(PATIENCE)
    }
}

/// What a crowd saw. Counts; the troubles' sum may be more than their examples.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Whole answers with a user's own name, nonce, body and digest.
    pub answers: u64,
    /// Of these: to requests that others followed at once.
    pub pipelined: u64,
    /// Of these: to requests with a body.
    pub uploads: u64,
    /// Logons by NTLM that ended well.
    pub ntlm: u64,
    /// Logons by a ticket, sent with the first request, that ended well.
    pub tickets: u64,
    /// With `--basic`: requests of nobody, answered so.
    pub strangers: u64,
    /// Answers that were given up in the middle.
    pub aborted: u64,
    /// Requests of somebody who was logged on, answered with 401.
    pub challenged: u64,
    /// Logons that were refused.
    pub refused: u64,
    /// Connections that ended, or answers that were neither 200 nor 401.
    pub broken: u64,
    /// Answers that name another user, nonce, body or digest.
    pub foreign: u64,
    /// Server connections that were seen.
    pub server_connections: u64,
    /// Of these: carried more than one user.
    pub of_many_users: u64,
    /// Of these: carried more than one client connection.
    pub of_many_clients: u64,
    /// A few of the troubles, in words.
    pub examples: Vec<String>,
}

/// The crowd's choices are the same in every run.
const SEED: &str = "5";

/// How long a crowd may take to end. Generous: this is no measurement.
const PATIENCE: Duration = Duration::from_secs(300);
