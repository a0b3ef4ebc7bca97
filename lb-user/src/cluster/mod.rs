//! heartbeat -> peers -> view -> owner table -> maps.

pub(crate) mod link;
pub mod node;
pub(crate) mod ownership;
pub mod peer;
pub mod sets;
pub mod wire;
