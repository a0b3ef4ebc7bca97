//! Other cluster facts while the agent runs: what it tells the cluster thread, and what follows where this node has no part in them.
//! When they come into force is the core's (`cluster/node/facts.rs`), what a configuration says beside them `reload.rs`'s.

use anyhow::Result;
use tracing::warn;

use super::reload::Change;
use super::{Agent, Interface};
use crate::cluster::driver::Input;
use crate::cluster::node::Event;
use crate::cluster::operate::{Intent, Mandate};
use crate::config::model::Config;

impl Agent {
    /// Does with a configuration what a reload wants.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Applied(config) => self.reconfigured(config),
            Change::Prepare(config) => {
                if let Err(error) = self.prepare_facts(&config) {
                    warn!("a configuration cannot be prepared: {error:#}");
                }
            }
            Change::Withdraw => self.tell(Input::Withdraw),
        }
    }

    /// The cluster is to switch to this one once every node has prepared it.
    fn prepare_facts(&self, config: &Config) -> Result<()> {
        let nic = Interface::inspect(&config.local.interface)?;
        // What operators want of this node stays as the cluster thread has it.
        let settings = self.settings(config, &nic, Mandate::default())?;
        let (facts, network) = (settings.facts, self.network(config, &nic));
        self.tell(Input::Prepare(Box::new(settings), Box::new(network)));
        self.tell(Input::Switch(facts));
        Ok(())
    }

    /// Ends the connections of a node that has no part in the cluster any more, as for one that is stopped.
    pub(super) fn heed_removal(&mut self, event: &Event) {
        if let Event::Removed(removed) = event {
            let wanted = self.cluster.as_ref().map(|cluster| cluster.handle().snapshot().mandate.intent);
            self.operated(if *removed { Intent::Stopped } else { wanted.unwrap_or(Intent::Started) });
        }
        if matches!(event, Event::NotConfigured { .. }) {
            // The others answer what belongs to them.
            self.end_connections();
        }
    }
}
