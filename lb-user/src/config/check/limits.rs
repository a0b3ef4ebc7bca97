//! What the proxy's clients are held to.

use std::ops::Range;

use super::Problems;
use crate::config::problem::Problem;
use crate::config::raw::{LimitsTable, Size, Time};
use crate::config::spanned::Spanned;
use crate::proxy::protect::limits::Limits;

/// What `[limits]` says, the rest by default.
pub(super) fn limits(raw: &Spanned<LimitsTable>, problems: &mut Problems) -> Option<Limits> {
    let table = raw.get_ref();
    let usual = Limits::default();
    let size = |raw: &Option<Spanned<Size>>, usual: u32| {
        raw.as_ref().map_or(usual, |size| u32::try_from(size.get_ref().0).unwrap_or(u32::MAX))
    };
    let time = |raw: &Option<Spanned<Time>>, usual| raw.as_ref().map_or(usual, |time| time.get_ref().0);
    let number = |raw: &Option<Spanned<u32>>, usual| raw.as_ref().map_or(usual, |number| *number.get_ref());
    let limits = Limits {
        head_bytes: size(&table.head_size, usual.head_bytes),
        head_fields: number(&table.head_fields, usual.head_fields),
        target_bytes: size(&table.target_size, usual.target_bytes),
        handshake: time(&table.handshake, usual.handshake),
        head: time(&table.head, usual.head),
        idle: time(&table.idle, usual.idle),
        body_wait: time(&table.body_wait, usual.body_wait),
        body_rate: number(&table.body_rate, usual.body_rate),
        early_answer: time(&table.early_answer, usual.early_answer),
        connections_per_client: number(&table.connections_per_client, usual.connections_per_client),
        connections: table.connections.as_ref().map(|number| *number.get_ref()),
        h2: usual.h2,
    };
    match limits.check() {
        Ok(()) => Some(limits),
        Err(error) => {
            let span = place(table, error.name).unwrap_or(raw.span());
            problems.add(Problem::of_error(span, error));
            None
        }
    }
}

/// Where the limit with this name stands.
fn place(table: &LimitsTable, name: &str) -> Option<Range<usize>> {
    fn at<T>(raw: &Option<Spanned<T>>) -> Option<Range<usize>> {
        raw.as_ref().map(Spanned::span)
    }
    let places = [
        ("head_bytes", at(&table.head_size)),
        ("head_fields", at(&table.head_fields)),
        ("target_bytes", at(&table.target_size)),
        ("handshake", at(&table.handshake)),
        ("head", at(&table.head)),
        ("idle", at(&table.idle)),
        ("body_wait", at(&table.body_wait)),
        ("body_rate", at(&table.body_rate)),
        ("early_answer", at(&table.early_answer)),
        ("connections_per_client", at(&table.connections_per_client)),
        ("connections", at(&table.connections)),
    ];
    places.into_iter().find(|(known, _)| *known == name)?.1
}
