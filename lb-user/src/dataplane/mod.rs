//! dataplane

pub mod link;
