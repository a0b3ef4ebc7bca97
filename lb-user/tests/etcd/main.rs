//! A real etcd, and real `rollcall store` children that talk to it, as a user of their own, on loopback addresses. Needs root, and
//! Debian's etcd-server and etcd-client.
//!
//! - `keeping`: what is put there is there, with TLS, certificates, passwords and a prefix; and what becomes of it.
//! - `trouble`: who is not let in, members that go and come back, and the child.
//! - `hostile`: a server that is no etcd.
#![expect(clippy::unwrap_used, reason = "all of this is a test, and tests panic")]

#[path = "../common/confined.rs"]
mod confined;
mod hostile;
mod keeping;
mod member;
mod trouble;
