//! proxy

pub mod worker;
