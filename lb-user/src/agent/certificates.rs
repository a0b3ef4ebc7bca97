//! Reads the certificates that are served, and the wall clock, for `expiry.rs`, and tells what comes of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::events::EventLog;
use super::expiry::{self, Expiry, Notice};
use crate::config::certificates::served;
use crate::config::model::{Config, Files};
use crate::control::api::CertificateEntry;
use crate::wall::WallTime;

/// The certificates of a running agent.
pub(super) struct Certificates {
    state: Mutex<State>,
    events: Arc<EventLog>,
}

struct State {
    expiry: Expiry,
    /// Counts the configurations that were followed: an earlier one may take longer to be read.
    followed: u64,
    /// Whether the nodes share their configuration.
    shared: bool,
}

impl Certificates {
    /// Of none yet. What earlier runs of this node's agent told is not told again, as far back as the log goes.
    pub(super) fn new(events: Arc<EventLog>) -> Arc<Self> {
        let expiry = Expiry::new(expiry::told(&events.records()));
        Arc::new(Self { state: Mutex::new(State { expiry, followed: 0, shared: false }), events })
    }

    /// Those of this configuration are served from now on. They are read off this thread: of 500 PKCS#12 files each takes its time.
    pub(super) fn follow(self: &Arc<Self>, config: Arc<Config>) {
        let number = {
            let mut state = self.state();
            state.followed += 1;
            state.followed
        };
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let certificates = served(&config.cluster, &config.files);
            let mut state = this.state();
            if state.followed == number {
                state.shared = matches!(config.files, Files::Held(_));
                let notices = state.expiry.handle_certificates(certificates, WallTime::now());
                this.tell(&state, &notices);
            }
        });
    }

    /// Tells what is due. To be called each second or so.
    pub(super) fn look(&self) {
        let mut state = self.state();
        let notices = state.expiry.handle_timeout(WallTime::now());
        self.tell(&state, &notices);
    }

    /// Those that have expired or do so within 30 days.
    pub(super) fn ending(&self) -> Vec<CertificateEntry> {
        self.state().expiry.ending(WallTime::now())
    }

    fn tell(&self, state: &State, notices: &[Notice]) {
        for notice in notices {
            let note = notice.note(state.shared);
            warn!("{}", note.text);
            self.events.push(note);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that the sites of a configuration serve; blocks for as long as the files take.
pub(super) fn list(config: &Config) -> Vec<CertificateEntry> {
    let now = WallTime::now();
    served(&config.cluster, &config.files).iter().map(|of| CertificateEntry::of(of, now)).collect()
}
