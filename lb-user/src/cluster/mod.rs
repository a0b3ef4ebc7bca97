//! heartbeat -> peers -> view -> owner table -> maps.

#[cfg(test)]
pub(crate) mod bug;
pub mod driver;
mod gateway;
mod hearing;
mod link;
pub mod node;
pub mod operate;
mod ownership;
pub mod peer;
pub mod scan;
pub mod sets;
pub mod transport;
pub mod wire;
