//! The proxy over loopback: real TLS, real sockets, servers and clients of the test's own.
//!
//! `forwarding`, `health`, `draining`, `http2` and `posture` run the proxy in this process, `child` and in part `applying` run the real
//! `rollcall proxy` under a supervisor, which needs root.

#![expect(clippy::unwrap_used, reason = "all of this is a test, and tests panic")]

mod applying;
mod backend;
mod child;
mod client;
#[path = "../common/confined.rs"]
mod confined;
mod draining;
mod forwarding;
mod health;
mod http2;
mod posture;
mod seen;
mod setup;
mod tcp;
