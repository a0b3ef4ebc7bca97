//! Rollcall's agent.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod preflight;
pub mod proxy;
pub mod sandbox;
pub mod sys;
pub mod telemetry;
