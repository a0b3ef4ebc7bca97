//! An agent that begins anew in the same process, because what it works with is another: cluster IPs, mode, port rules. All nodes do, at
//! nearly the same time, since each of them was told so by the same change.
//!
//! ```text
//! lease ended -> exec -> XDP program of the new plan -> cluster thread, as at a start -> proxy adopted, with the new settings
//! ```
//! A bucket does not mean the same before and after, so nothing of the cluster thread's is kept: this node holds nothing until it has heard the
//! others, which stay out until it has begun anew, too (*other cluster facts*). Its connections go on: their sockets are the kernel's, and
//! where there are any the start writes `departing`. The proxy's worker never notices but for its new settings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Candidate, Departure, Upgrade};
use crate::agent::checks::Services;
use crate::agent::events::Note;
use crate::agent::orders;
use crate::agent::serving::Serving;
use crate::agent::{Agent, Maps};
use crate::control::server::Sockets;
use crate::dataplane::link::Interface;
use crate::dataplane::{self, writers_of};
use crate::proxy::supervisor::{self, Left};

/// How long the proxy may take for its new settings.
const APPLIED: Duration = Duration::from_secs(20);

impl Agent {
    /// Stops without ending, as for an upgrade to this very program; but nobody waits for this node, and it accepts nothing from here on.
    /// `None`: it goes on as it was.
    pub(in crate::agent) async fn renew(&mut self) -> Option<Departure> {
        let candidate = match Candidate::own() {
            Ok(candidate) => candidate,
            Err(error) => {
                warn!(%error, "this program cannot be started anew: the change is taken up at the next start");
                return None;
            }
        };
        info!("the agent begins anew, with what the nodes share by now");
        self.log(Note::new(
            "configuration-renewed",
            false,
            "the agent begins anew, with another configuration",
        ));
        if let Err(error) = self.close_events().await {
            warn!("{error:#}");
        }
        if let Err(error) = self.give_up().await {
            warn!("what this node held cannot be given up before it begins anew: {error:#}");
            if let Err(error) = self.open_events() {
                warn!("{error:#}");
            }
            return None;
        }
        // Nobody waits to be told.
        let (refused, _) = oneshot::channel();
        let departure = self.leave_all(Upgrade { candidate, refused }).await?;
        Some(Departure { renewed: true, ..departure })
    }

    /// Ends the cluster thread, and what it let the packet program accept.
    async fn give_up(&self) -> Result<()> {
        self.suspend_cluster().await?;
        let pins = dataplane::pins_of(self.config.local.beneath())?;
        let (_, mut lease) = writers_of(&pins)?;
        lease.end().context("the lease cannot be ended")
    }

    /// Goes on where the agent of before stopped, with another configuration.
    pub(super) async fn begin_anew(
        &mut self,
        nic: &Interface,
        pins: &Path,
        proxy: Option<Left>,
        sockets: Arc<Sockets>,
    ) -> Result<()> {
        let config = Arc::clone(&self.config);
        self.open_events()?;
        let (tables, mut lease) = writers_of(pins)?;
        // Whatever came of the agent before: no table of its means the same under the next program.
        lease.end().context("the lease cannot be ended")?;
        self.replace_program(nic, pins)?;
        let (state_dir, rules) = (&config.local.state_dir, &config.cluster.rules);
        let mandate = orders::keep::begin(state_dir, config.cluster.initial_state, true, rules);
        let known = Services::known_at_start(&config, &self.plan);
        self.serving = Some(Serving::begin(&config, &self.plan, mandate.intent, known));
        let handle = self.start_cluster(nic, mandate, Maps { tables, lease })?;
        match proxy {
            // Nothing is published any more: it finishes what it has, up to the drain timeout of before.
            Some(left) if !self.publishes() => drop(tokio::spawn(self.resume_proxy(left)?.stop())),
            proxy => self.take_up_proxy(proxy)?,
        }
        if let Some(proxy) = &self.proxy {
            let snapshot = supervisor::snapshot(&config, &self.secret)?;
            let applied = timeout(APPLIED, proxy.changer().apply(snapshot)).await;
            applied.context("the proxy gave no answer")??;
        }
        self.open_control(handle, sockets)?;
        self.log(Note::new("agent-started", false, "the agent has begun anew, with another configuration"));
        Ok(())
    }
}
