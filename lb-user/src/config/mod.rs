//! config -> parse -> check -> apply.

pub mod model;
pub mod secret;
