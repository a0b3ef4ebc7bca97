//! The cluster thread -> bytes -> the cluster thread of the next program in the same process. Between the two nobody sends a
//! heartbeat, and the others wait, because the node has asked them to (`Order::Prepare`).

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::{Cluster, DataPath, Driver, Handle, Input, Output, StartError, open};
use crate::clock::Time;
use crate::cluster::link::{Link, SavedLink};
use crate::cluster::node::{Node, Order};
use crate::cluster::transport::Network;
use crate::config::model::Priority;
use crate::config::secret::ClusterSecret;

/// What goes on.
#[derive(Serialize, Deserialize)]
struct Saved<N> {
    node: N,
    link: SavedLink,
}

/// A thread that is about to stop, and to whom it says what is to go on.
#[derive(Debug)]
pub(super) struct Suspension {
    saved: Sender<io::Result<Vec<u8>>>,
    /// Whether a round of heartbeats has gone out since.
    pub(super) beaten: bool,
}

/// How long the last round may take to begin; it is due within 2 ms.
const LAST_ROUND: Duration = Duration::from_millis(500);

impl Handle {
    /// Stops the thread right after a last round of heartbeats, so that the lease lasts for as long as can be. Nobody is told
    /// that the node leaves: once the bytes are `resume`d, in this process or the program that comes after this one, it goes on
    /// as after a pause. An error: the thread goes on, or has failed.
    pub fn suspend(&self) -> io::Result<Vec<u8>> {
        let (saved, received) = channel();
        self.tell(Input::Suspend(saved));
        received.recv_timeout(LAST_ROUND).map_err(io::Error::other)?
    }
}

impl Cluster {
    /// Goes on with what `suspend` gave of node `me`, as under the same configuration. `carrier`: whether the cluster NIC had one
    /// meanwhile, each time that this changed, and has one now.
    pub fn resume<D: DataPath + 'static>(
        saved: &[u8],
        me: Priority,
        network: Network,
        secret: ClusterSecret,
        data_path: D,
        carrier: impl Iterator<Item = bool>,
        outputs: UnboundedSender<Output>,
    ) -> Result<Self, StartError> {
        let saved: Saved<Node> = serde_json::from_slice(saved).map_err(io::Error::from)?;
        let transport = open(network)?;
        let (mut node, now) = (saved.node, Time::now());
        let link = Link::resume(saved.link, me, secret)
            .ok_or_else(|| io::Error::other("the cluster secret is another than before"))?;
        node.handle_order(Order::Unprepare, now);
        node.forget_prepared();
        carrier.for_each(|up| node.handle_carrier(up, now));
        Self::launch(node, link, transport, data_path, outputs)
    }
}

impl<D> Driver<D> {
    /// Makes the next round of heartbeats the last.
    pub(super) fn begin_to_suspend(&mut self, saved: Sender<io::Result<Vec<u8>>>, now: Time) {
        // Who is prepared stays so; a round is wanted at once.
        self.node.handle_order(Order::Prepare, now);
        self.suspension = Some(Suspension { saved, beaten: false });
    }

    /// Whether this was the last turn.
    pub(super) fn suspend(&mut self) -> bool {
        let Some(suspension) = self.suspension.take_if(|suspension| suspension.beaten) else {
            return false;
        };
        let saved = serde_json::to_vec(&Saved { node: &self.node, link: self.link.save() });
        let sound = saved.is_ok();
        // Who waits no longer has given up: then this thread goes on.
        suspension.saved.send(saved.map_err(io::Error::from)).is_ok() && sound
    }
}
