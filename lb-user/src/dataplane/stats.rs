//! verdict -> counter: how many frames met their fate under which rule, for which reason.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use aya::maps::{MapData, PerCpuArray};
use lb_common::table::{Counter, PortRules, RULES, counter};
use lb_common::verdict::{REASONS, Reason};

use super::reasons::{Class, class};
use crate::control::api::Count;

/// The counters of one interface. They outlive the agent, and begin at zero when the program is first attached; those of port
/// rules also when other ports have rules than before.
#[derive(Clone)]
pub struct Counters {
    map: Arc<PerCpuArray<MapData, Counter>>,
    rules: u8,
}

impl Counters {
    /// Of the rules that `port_lists` name, and rule 0: the rest of the map is not read.
    pub(crate) fn new(map: PerCpuArray<MapData, Counter>, port_lists: &[PortRules]) -> Self {
        let named = port_lists.iter().flat_map(|list| &list.0).copied().max().unwrap_or(0);
        Self { map: Arc::new(map), rules: named.min(RULES as u8 - 1) + 1 }
    }

    /// Frames and bytes of every reason, also of those that never occurred, by its name.
    ///
    /// # Errors
    /// The kernel refused to read the map; nothing changed.
    pub fn read(&self) -> io::Result<BTreeMap<String, Count>> {
        Ok(self.tally()?.totals())
    }

    /// Everything: some 45 short system calls a rule.
    ///
    /// # Errors
    /// The kernel refused to read the map; nothing changed.
    pub fn tally(&self) -> io::Result<Tally> {
        let of_rule = |rule| {
            let mut counts = [Count::default(); REASONS];
            for (count, reason) in counts.iter_mut().zip(Reason::ALL) {
                *count = self.get(rule, *reason)?;
            }
            Ok(counts)
        };
        Ok(Tally((0..self.rules).map(of_rule).collect::<io::Result<_>>()?))
    }

    /// Frames and bytes of these reasons, under whatever rule.
    ///
    /// # Errors
    /// The kernel refused to read the map; nothing changed.
    pub fn sum(&self, wanted: impl Fn(Reason) -> bool) -> io::Result<Count> {
        let mut sum = Count::default();
        for rule in 0..self.rules {
            for &reason in Reason::ALL.iter().filter(|reason| wanted(**reason)) {
                sum.add(self.get(rule, reason)?);
            }
        }
        Ok(sum)
    }

    /// What was passed to this host for the cluster IPs.
    ///
    /// # Errors
    /// The kernel refused to read the map; nothing changed.
    pub fn passed(&self) -> io::Result<Count> {
        self.sum(|reason| class(reason) == Class::Passed)
    }

    fn get(&self, rule: u8, reason: Reason) -> io::Result<Count> {
        let mut sum = Count::default();
        let of_cpus = self.map.get(&counter(rule, reason as u8), 0).map_err(io::Error::other)?;
        for Counter { packets, bytes } in of_cpus.iter().copied() {
            sum.add(Count { packets, bytes });
        }
        Ok(sum)
    }
}

/// All counters at one moment: those of rule 0, then those of the port rules by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(Vec<[Count; REASONS]>);

impl Tally {
    /// Of every reason, also of those that never occurred, by its name, under whatever rule.
    pub fn totals(&self) -> BTreeMap<String, Count> {
        let sum = |reason: Reason| {
            let mut sum = Count::default();
            self.0.iter().for_each(|counts| sum.add(counts[reason as usize]));
            sum
        };
        Reason::ALL.iter().map(|reason| (reason.as_str().to_owned(), sum(*reason))).collect()
    }

    /// Of the rule with this number, the reasons that occurred.
    pub fn of_rule(&self, number: usize) -> impl Iterator<Item = (Reason, Count)> {
        let counts = self.0.get(number).into_iter().flatten();
        Reason::ALL.iter().copied().zip(counts.copied()).filter(|(_, count)| count.packets > 0)
    }

    /// What was passed to this host for the cluster IPs.
    pub fn passed(&self) -> Count {
        let mut sum = Count::default();
        let counted = (0..self.0.len()).flat_map(|number| self.of_rule(number));
        counted.filter(|(reason, _)| class(*reason) == Class::Passed).for_each(|(_, count)| sum.add(count));
        sum
    }
}

impl Count {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

#[cfg(test)]
impl Tally {
    /// One packet of 100 bytes for each of these rules and reasons.
    pub(crate) fn of(rules: usize, packets: &[(usize, Reason)]) -> Self {
        let mut tally = Self(vec![[Count::default(); REASONS]; rules]);
        for &(rule, reason) in packets {
            tally.0[rule][reason as usize].add(Count { packets: 1, bytes: 100 });
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_those_of_all_rules_and_name_every_reason() {
        let tally =
            Tally::of(3, &[(0, Reason::Echo), (1, Reason::Other), (2, Reason::Other), (2, Reason::Mine)]);
        let totals = tally.totals();
        assert_eq!(totals.len(), REASONS);
        assert_eq!(totals["other"], Count { packets: 2, bytes: 200 });
        assert_eq!(totals["new-mine"], Count::default());
        assert_eq!(tally.passed(), Count { packets: 2, bytes: 200 });
        let of_rule: Vec<_> = tally.of_rule(2).map(|(reason, count)| (reason, count.packets)).collect();
        assert_eq!(of_rule, [(Reason::Mine, 1), (Reason::Other, 1)]);
    }
}
