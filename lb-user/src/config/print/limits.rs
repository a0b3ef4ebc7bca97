//! `[limits]`.

use super::{size, time};
use crate::proxy::protect::limits::Limits;

/// The table. What HTTP/2 alone is held to is no key of the file.
pub(super) fn table(limits: &Limits) -> String {
    let Limits { head_bytes, head_fields, target_bytes, handshake, head, idle, .. } = limits;
    let Limits { body_wait, body_rate, early_answer, connections_per_client, connections, h2: _, .. } =
        limits;
    let connections = connections.map(|count| format!("connections = {count}\n")).unwrap_or_default();
    format!(
        "[limits]\nhead_size = {}\nhead_fields = {head_fields}\ntarget_size = {}\nhandshake = {}\nhead = {}\nidle = {}\n\
         body_wait = {}\nbody_rate = {body_rate}\nearly_answer = {}\nconnections_per_client = {connections_per_client}\n{connections}\n",
        size((*head_bytes).into()),
        size((*target_bytes).into()),
        time(*handshake),
        time(*head),
        time(*idle),
        time(*body_wait),
        time(*early_answer),
    )
}
