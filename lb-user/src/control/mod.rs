//! Control.

pub mod api;
