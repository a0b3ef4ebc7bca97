//! Other cluster facts while the agent runs: what it tells the cluster thread, and what follows where this node has no part in them.
//! When they come into force is the core's (`cluster/node/facts.rs`), what a configuration says beside them `reload.rs`'s.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;
use tracing::warn;

use super::peering::Shared;
use super::reload::Change;
use super::upgrade::Departure;
use super::{Agent, Interface};
use crate::cluster::driver::Input;
use crate::cluster::node::{Event, Order};
use crate::cluster::operate::{Intent, Mandate};
use crate::config::model::Config;
use crate::config::secret::ClusterSecret;

/// How long operators and other nodes have to get their answers before an agent begins anew. So all nodes do at nearly the same time.
const ANSWERED: Duration = Duration::from_millis(300);

impl Agent {
    /// Does with a configuration what a reload wants. `Some`: this program is to begin anew.
    pub(super) async fn change(&mut self, change: Change) -> Option<Departure> {
        match change {
            Change::Applied(config) => self.reconfigured(config),
            Change::Prepare(config, secret) => {
                if let Err(error) = self.prepare_facts(&config, secret) {
                    warn!("a configuration cannot be prepared: {error:#}");
                }
            }
            Change::Withdraw => self.tell(Input::Withdraw),
            Change::Expect(secret) => self.tell(Input::Expect(secret)),
            Change::Dismiss => self.dismissed = true,
            Change::Renew => {
                if let Some(peering) = &self.peering {
                    self.once_at_rest(peering.shared(), ANSWERED, Change::RenewNow);
                }
            }
            Change::RenewNow => return self.renew().await,
        }
        None
    }

    /// The cluster is to switch to this one once every node has prepared it.
    fn prepare_facts(&self, config: &Config, secret: ClusterSecret) -> Result<()> {
        let nic = Interface::inspect(&config.local.interface)?;
        // What operators want of this node stays as the cluster thread has it.
        let settings = self.settings(config, &secret, &nic, Mandate::default())?;
        let (facts, network) = (settings.facts, self.network(config, &nic));
        self.tell(Input::Prepare(Box::new(settings), Box::new(network), secret));
        self.tell(Input::Switch(facts));
        Ok(())
    }

    /// Ends the connections of a node that has no part in the cluster any more, as for one that is stopped. Where the nodes share their
    /// configuration the agent ends, which lets them end by themselves: nothing could bring this node back but to join anew.
    pub(super) fn heed_removal(&mut self, event: &Event) {
        if let Event::Removed(removed) = event {
            if let Some(peering) = &self.peering {
                if *removed {
                    self.stop_once_at_rest(peering.shared());
                }
                return;
            }
            let wanted = self.cluster.as_ref().map(|cluster| cluster.handle().snapshot().mandate.intent);
            self.operated(if *removed { Intent::Stopped } else { wanted.unwrap_or(Intent::Started) });
        }
        if matches!(event, Event::NotConfigured { .. }) {
            // The others answer what belongs to them.
            self.end_connections();
        }
    }

    /// Hands the share over at once. The agent goes on until the change that leaves this node out is done with, which may be its own.
    fn stop_once_at_rest(&self, shared: Arc<Shared>) {
        self.tell(Input::Order(Order::Stop));
        self.once_at_rest(shared, Duration::ZERO, Change::Dismiss);
    }

    /// Does something once the change that made it necessary is done with, which may be this node's own.
    fn once_at_rest(&self, shared: Arc<Shared>, thereafter: Duration, change: Change) {
        let agent = self.reloaded.0.clone();
        tokio::spawn(async move {
            shared.at_rest().await;
            sleep(thereafter).await;
            // An agent that ends already does what is wanted, or more.
            drop(agent.send(change).await);
        });
    }
}
