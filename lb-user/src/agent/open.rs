//! How many TCP connections to the cluster IPs this host has.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use crate::clock::Time;
use crate::cluster::scan;
use crate::dataplane::Plan;

/// This host's connections to cluster IPs.
pub(super) struct Open {
    pub(super) established: usize,
    /// Of which one side or both have ended theirs.
    pub(super) closing: usize,
}

/// Asks the kernel; takes time in proportion to the host's connections.
pub(super) fn open_connections(plan: &Plan) -> io::Result<Open> {
    let mut open = Open { established: 0, closing: 0 };
    scan::for_each_connection(|local, remote, state| {
        // This host's tests of its own services are no clients.
        let client = local.ip() != remote.ip();
        let counted = usize::from(client && plan.locate(local, remote).is_some());
        match state {
            scan::State::Established => open.established += counted,
            scan::State::Closing => open.closing += counted,
            scan::State::SynSent | scan::State::SynReceived | scan::State::TimeWait => {}
        }
    })?;
    Ok(open)
}

/// How often they are counted.
const EVERY: Duration = Duration::from_secs(1);

/// How much longer than a count took the pause after it is at least: many connections cost a hundredth of a core, not more.
const PAUSE: u32 = 100;

/// Counts established connections for ever.
pub(super) async fn count(plan: Arc<Plan>, counted: watch::Sender<u32>) {
    let mut failed = false;
    loop {
        let (plan, begin) = (Arc::clone(&plan), Time::now());
        let open = tokio::task::spawn_blocking(move || open_connections(&plan)).await;
        match open.map_err(io::Error::other).flatten() {
            Ok(open) => {
                counted.send_replace(u32::try_from(open.established).unwrap_or(u32::MAX));
            }
            Err(error) if !failed => {
                failed = true;
                warn!(%error, "cannot count this host's connections");
            }
            Err(_) => {}
        }
        tokio::time::sleep(EVERY.max(Time::now().since(begin) * PAUSE)).await;
    }
}
