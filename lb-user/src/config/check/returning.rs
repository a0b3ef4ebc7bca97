//! Heartbeats, and how nodes come back.

use std::time::Duration;

use super::Problems;
use crate::config::model::{Failback, InitialState, Profile, Timing};
use crate::config::raw::{self, ClusterTable};
use crate::config::spanned::Spanned;

/// The profile's heartbeats, with what is given in their place.
pub(super) fn timing(table: &ClusterTable, problems: &mut Problems) -> Option<Timing> {
    let choices = [("default", Profile::Default), ("fast", Profile::Fast), ("vm", Profile::Vm)];
    let profile = problems.choice("profile", &table.profile, &choices);
    let period = match &table.period_ms {
        Some(raw) => {
            problems.number("period_ms", raw, 5..=1000).map(|millis| Duration::from_millis(millis.into()))
        }
        None => profile.map(|profile| profile.timing().period),
    };
    let multiplier = match &table.suspect_after {
        Some(raw) => problems.number("suspect_after", raw, 3..=100).and_then(|count| count.try_into().ok()),
        None => profile.map(|profile| profile.timing().multiplier),
    };
    profile?;
    Some(Timing { period: period?, multiplier: multiplier? })
}

/// How nodes begin and come back.
pub(super) struct Returning {
    pub(super) failback: Failback,
    pub(super) hold_down: Duration,
    pub(super) ramp: Duration,
    pub(super) initial_state: InitialState,
}

/// The checked keys about it.
pub(super) fn returning(table: &ClusterTable, problems: &mut Problems) -> Option<Returning> {
    let failback = failback(table, problems);
    let hold_down = problems.time("hold_down", &table.hold_down, Duration::ZERO..=hours(24));
    let ramp = problems.time("ramp", &table.ramp, Duration::ZERO..=hours(1));
    let choices = [
        ("as-before", InitialState::AsBefore),
        ("started", InitialState::Started),
        ("stopped", InitialState::Stopped),
        ("suspended", InitialState::Suspended),
    ];
    let initial_state = problems.choice("initial_state", &table.initial_state, &choices);
    Some(Returning { failback: failback?, hold_down: hold_down?, ramp: ramp?, initial_state: initial_state? })
}

fn failback(table: &ClusterTable, problems: &mut Problems) -> Option<Failback> {
    let raw = &table.failback;
    match raw.get_ref() {
        raw::Failback::Immediate => Some(Failback::Immediate),
        raw::Failback::Manual => Some(Failback::Manual),
        raw::Failback::After(time) => {
            let time = Spanned::new(raw.span(), *time);
            problems.time("failback", &time, Duration::from_secs(1)..=hours(24)).map(Failback::After)
        }
    }
}

const fn hours(count: u64) -> Duration {
    Duration::from_secs(3600 * count)
}
