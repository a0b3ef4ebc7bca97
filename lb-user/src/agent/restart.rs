//! An agent that ended in good order starts anew in the same process, so that whoever watches over it sees it go on.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use super::upgrade::{Departure, own_program};
use crate::sys::image;

/// In the environment of an agent that was started by its predecessor.
const VARIABLE: &str = "ROLLCALL_AGAIN";

/// How an agent ended.
#[derive(Debug)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// It is to start anew.
    Restart(Again),
    /// Another program goes on.
    Upgrade(Box<Departure>),
}

/// The program that is to be started anew.
#[derive(Debug)]
pub struct Again(PathBuf);

impl Again {
    /// The one that lies there, a newer one perhaps.
    pub(super) fn at(program: PathBuf) -> Self {
        Self(program)
    }

    /// Starts it in this process, with the same arguments; returns only why that cannot be done.
    pub fn start(self) -> anyhow::Error {
        let source = replace(&self.0);
        // What is gone from its place is still open.
        let again = replace(&own_program());
        anyhow::Error::from(source).context(format!(
            "cannot start {} anew, nor this very program ({again}); hint: this node has handed its share over: start its agent by hand",
            self.0.display()
        ))
    }
}

fn replace(program: &Path) -> io::Error {
    match File::open(program) {
        Ok(file) => {
            let known = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
            let environment = known.chain([(VARIABLE.into(), OsString::from("1"))]);
            image::replace(file.as_fd(), std::env::args_os(), environment)
        }
        Err(error) => error,
    }
}

/// Whether this agent was started by its predecessor.
pub(super) fn is_again() -> bool {
    std::env::var_os(VARIABLE).is_some()
}
