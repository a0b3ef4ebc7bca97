//! What the control socket asks of the agent, answered from snapshots: no request waits for the cluster thread, and none can
//! delay it.

use std::sync::Arc;

use tokio::sync::watch;

use super::events::EventLog;
use super::status::{Facts, name, status};
use crate::clock::Time;
use crate::cluster::driver::{Handle, Input};
use crate::cluster::node::Order;
use crate::cluster::peer::Standing;
use crate::config::model::{Config, Filtering, Priority};
use crate::control::api::{Answer, InterfaceStatus, ProxyStatus, Request};
use crate::dataplane::Counters;

/// What answers need.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) cluster: Handle,
    pub(super) counters: Counters,
    pub(super) interface: InterfaceStatus,
    /// Each owner table's filtering mode and ports.
    pub(super) tables: Vec<(Filtering, String)>,
    pub(super) proxy: Option<watch::Receiver<ProxyStatus>>,
    pub(super) events: Arc<EventLog>,
}

impl Shared {
    /// The answer to a request whose sender may make it.
    pub(super) fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => self.status(),
            Request::Drain { node } => self.drain(node.as_deref(), true),
            Request::Resume { node } => self.drain(node.as_deref(), false),
        }
    }

    fn status(&self) -> Answer {
        let counters = match self.counters.read() {
            Ok(counters) => counters,
            Err(error) => {
                return Answer::Error { text: format!("cannot read the counters: {error}") };
            }
        };
        let snapshot = self.cluster.snapshot();
        let facts = Facts {
            config: &self.config,
            snapshot: &snapshot,
            tables: &self.tables,
            interface: self.interface.clone(),
            counters,
            proxy: self.proxy.as_ref().map(|proxy| proxy.borrow().clone()),
            events: self.events.list(),
            now: Time::now(),
            pid: std::process::id(),
        };
        Answer::Status(Box::new(status(facts)))
    }

    fn drain(&self, node: Option<&str>, drain: bool) -> Answer {
        let what = if drain { "drains: its share goes to the others" } else { "takes a share again" };
        let me = &self.config.local.name;
        let wanted = node.unwrap_or(me);
        let Some(node) = self.config.cluster.nodes.iter().find(|node| node.name == wanted) else {
            let known: Vec<&str> = self.config.cluster.nodes.iter().map(|node| node.name.as_str()).collect();
            return Answer::Error {
                text: format!("no node is named {wanted}; the nodes are {}", known.join(", ")),
            };
        };
        if node.name == *me {
            self.cluster.tell(Input::Order(if drain { Order::Drain } else { Order::Resume }));
        } else if self.is_heard(node.priority) {
            self.cluster.tell(Input::Wish(node.priority, drain));
        } else {
            let text = format!("{wanted} is not heard here, so it cannot be told; ask on {wanted} itself");
            return Answer::Error { text };
        }
        Answer::Done { text: format!("{} {what}", name(&self.config, node.priority)) }
    }

    fn is_heard(&self, node: Priority) -> bool {
        let snapshot = self.cluster.snapshot();
        snapshot.peers.iter().any(|peer| peer.node == node && peer.standing == Standing::Alive)
    }
}

/// The proxy's readiness whenever its status changes; never where there is no proxy.
pub(super) async fn next_readiness(proxy: &mut Option<watch::Receiver<ProxyStatus>>) -> bool {
    if let Some(status) = proxy
        && status.changed().await.is_ok()
    {
        return status.borrow_and_update().ready;
    }
    // No proxy, or its supervisor has ended with the agent.
    std::future::pending().await
}
