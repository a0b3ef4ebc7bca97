//! The lab.

pub mod netns;
pub mod verdicts;
