//! What the cluster's core says, as the events log has it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Note;
use crate::cluster::node::Event;
use crate::config::model::Priority;

/// The note on `event`; `name` gives a node's name.
pub(in crate::agent) fn note_of(event: &Event, name: impl Fn(Priority) -> String) -> Note {
    Note {
        kind: event.kind(),
        warning: event.is_warning(),
        about: event.about().map(&name),
        text: event.sentence(&name),
        details: details(event, &name),
    }
}

/// What `rollcall history` reads. Of other events the sentence says all.
fn details(event: &Event, name: impl Fn(Priority) -> String) -> BTreeMap<String, Value> {
    let Event::Converged { table, members, moved, duration, causes } = event else {
        return BTreeMap::new();
    };
    let causes: Vec<String> = causes.iter().map(|cause| cause.sentence(&name)).collect();
    let details = [
        ("epoch", json!(table.epoch)),
        ("nodes", json!(members)),
        ("moved", json!(moved)),
        ("duration_ms", json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))),
        ("causes", json!(causes)),
    ];
    details.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::operate::{Cause, Change};
    use crate::cluster::wire::TableId;

    fn name(node: Priority) -> String {
        format!("arr{node}")
    }

    #[test]
    fn a_note_says_which_node_it_is_about() {
        let node = Priority::new(2).unwrap();
        let note = note_of(&Event::Suspect(node), name);
        assert_eq!((note.kind, note.warning, note.about.as_deref()), ("suspect", true, Some("arr2")));
        assert!(note.text.starts_with("arr2 is silent"), "{}", note.text);
        assert_eq!(note_of(&Event::Serving, name), Note::new("serving", false, "this node serves"));
    }

    #[test]
    fn a_convergence_tells_what_it_took_and_why() {
        let node = Priority::new(2).unwrap();
        let event = Event::Converged {
            table: TableId { epoch: 7, author: 1, incarnation: 5 },
            members: 1,
            moved: 2048,
            duration: Duration::from_micros(93_700),
            causes: vec![Cause { node, change: Change::Fell }, Cause { node, change: Change::Weight }],
        };
        let details = json!({
            "epoch": 7, "nodes": 1, "moved": 2048, "duration_ms": 93,
            "causes": ["arr2 fell silent", "arr2 has another weight"],
        });
        let note = note_of(&event, name);
        assert_eq!((note.kind, json!(note.details)), ("converged", details));
    }
}
