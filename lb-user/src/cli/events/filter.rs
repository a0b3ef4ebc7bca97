//! Which events are wanted. Pure.

use crate::control::api::EventRecord;
use crate::wall::WallTime;

/// What an event must be to be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Not before this.
    pub(super) since: Option<WallTime>,
    /// A warning.
    pub(super) warnings: bool,
    /// About this node.
    pub(super) node: Option<String>,
}

impl Filter {
    /// The last `most` of those that are wanted.
    pub(super) fn last(&self, mut records: Vec<EventRecord>, most: usize) -> Vec<EventRecord> {
        records.retain(|record| self.wants(record));
        records.split_off(records.len().saturating_sub(most))
    }

    /// What is about no other node is about the node that noted it.
    fn wants(&self, record: &EventRecord) -> bool {
        let about = record.about.as_ref().unwrap_or(&record.node);
        self.since.is_none_or(|since| record.time >= since)
            && (record.warning || !self.warnings)
            && self.node.as_ref().is_none_or(|node| node == about)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn record(seq: u64, warning: bool, about: Option<&str>) -> EventRecord {
        EventRecord {
            seq,
            time: WallTime::from_unix_ms(seq * 1000),
            monotonic_ms: 0,
            node: "arr1".into(),
            kind: "joined".into(),
            warning,
            about: about.map(str::to_owned),
            text: String::new(),
            count: 1,
            missed: 0,
            details: BTreeMap::new(),
        }
    }

    #[test]
    fn the_last_are_those_of_what_is_wanted() {
        let all = || {
            vec![
                record(1, true, None),
                record(2, false, Some("arr2")),
                record(3, true, Some("arr2")),
                record(4, false, None),
            ]
        };
        let rows = [
            (Filter::default(), 9, vec![1, 2, 3, 4]),
            (Filter::default(), 2, vec![3, 4]),
            (Filter { warnings: true, ..Filter::default() }, 9, vec![1, 3]),
            (Filter { warnings: true, ..Filter::default() }, 1, vec![3]),
            (Filter { node: Some("arr2".into()), ..Filter::default() }, 9, vec![2, 3]),
            (Filter { node: Some("arr1".into()), ..Filter::default() }, 9, vec![1, 4]),
            (Filter { since: Some(WallTime::from_unix_ms(3000)), ..Filter::default() }, 9, vec![3, 4]),
        ];
        for (filter, most, wanted) in rows {
            let shown: Vec<u64> = filter.last(all(), most).iter().map(|record| record.seq).collect();
            assert_eq!(shown, wanted, "{filter:?}, {most}");
        }
    }
}
