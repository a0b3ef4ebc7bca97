//! The TCP connections to the cluster IPs that this host has, with their buckets, for `rollcall connections`.

use std::collections::BTreeMap;
use std::io;

use lb_common::table::Bucket;

use super::holders::{holder, own_state, word};
use super::status::name;
use crate::cluster::node::Snapshot;
use crate::cluster::scan::{self, State};
use crate::config::model::{Config, Priority};
use crate::control::api::{Connection, Connections};
use crate::dataplane::Plan;

/// The most that are ever listed: an answer has to fit in memory on both sides.
const MOST: usize = 10_000;

/// Which connections are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Those in this bucket alone.
    pub(super) bucket: Option<Bucket>,
    /// Those in buckets that this node holds now alone.
    pub(super) node: Option<Priority>,
    /// How many to list.
    pub(super) limit: usize,
}

/// Asks the kernel; takes time in proportion to the host's connections.
pub(super) fn list(
    config: &Config,
    plan: &Plan,
    snapshot: &Snapshot,
    wanted: Wanted,
) -> io::Result<Connections> {
    let me = config.me().priority;
    let mut holders = BTreeMap::new();
    let mut found = Connections::default();
    scan::for_each_connection(|local, remote, state| {
        let Some((table, bucket)) = plan.locate(local, remote) else { return };
        if wanted.bucket.is_some_and(|wanted| wanted != bucket) {
            return;
        }
        // Many connections share a bucket.
        let holder = holders.entry((table, bucket)).or_insert_with(|| holder(snapshot, me, table, bucket));
        let holder = *holder;
        if wanted.node.is_some() && holder != wanted.node {
            return;
        }
        found.total += 1;
        found.established += usize::from(state == State::Established);
        if found.connections.len() < wanted.limit.min(MOST) {
            found.connections.push(Connection {
                client: remote,
                service: local,
                state: state.as_str().to_owned(),
                table,
                bucket: bucket.index() as u16,
                bucket_state: word(own_state(snapshot, table, bucket)).to_owned(),
                holder: holder.map(|node| name(config, node)),
            });
        }
    })?;
    found.connections.sort_by_key(|found| (found.table, found.bucket, found.client));
    Ok(found)
}
