//! Rollcall's agent.

pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod proxy;
pub mod sandbox;
pub mod sys;
