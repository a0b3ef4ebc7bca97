//! The lab.

pub mod netns;
