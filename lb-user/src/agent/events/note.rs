//! What the cluster's core says, as the events log has it.

use super::Note;
use crate::cluster::node::Event;
use crate::config::model::Priority;

/// The note on `event`; `name` gives a node's name.
pub(in crate::agent) fn note_of(event: &Event, name: impl Fn(Priority) -> String) -> Note {
    let kind = if event.is_warning() { "warning" } else { "notice" };
    Note::new(kind, event.is_warning(), event.sentence(name))
}
