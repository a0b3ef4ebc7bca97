//! A client of tests/python that is at work while the test does something else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_user::clock::Time;
use serde::de::DeserializeOwned;

use super::Exchange;
use crate::sys::Process;

/// At work; ended when dropped.
#[derive(Debug)]
pub struct Background {
    what: String,
    process: Process,
    log: PathBuf,
}

impl Background {
    /// Starts `client`, which is called `what` in errors.
    pub fn start(exchange: &Exchange, what: &str, client: &mut Command) -> Result<Self> {
        let lab = &exchange.cluster.lab;
        let log = lab.folder().join(format!("{}.log", what.replace(' ', "-")));
        let process = Process::start(what, &lab.client, client, &log)?;
        Ok(Self { what: what.to_owned(), process, log })
    }

    /// Waits until it has said `word`.
    pub fn wait_for(&mut self, word: &str, patience: Duration) -> Result<()> {
        let deadline = Time::now() + patience;
        while !fs::read_to_string(&self.log).is_ok_and(|text| text.contains(word)) {
            if Time::now() > deadline || self.process.ended().is_some() {
                bail!("{} did not say {word:?}\n{}", self.what, self.process.log_tail());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until it ends, and reads the JSON of its last line.
    pub fn finish<T: DeserializeOwned>(mut self, patience: Duration) -> Result<T> {
        let status = self.process.wait(patience)?;
        ensure!(status.success(), "{} failed: {status}\n{}", self.what, self.process.log_tail());
        let text = fs::read_to_string(&self.log).with_context(|| format!("cannot read {:?}", self.log))?;
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("{} printed {text}", self.what))
    }
}
