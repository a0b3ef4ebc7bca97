//! The proxy over loopback: real TLS, real sockets, servers and clients of the test's own.
//!
//! `forwarding` and `draining` run the proxy in this process, `child` runs the real `rollcall proxy` under a supervisor, which
//! needs root.

#![expect(clippy::unwrap_used, reason = "all of this is a test, and tests panic")]

mod backend;
mod child;
mod client;
mod draining;
mod forwarding;
mod setup;
