//! Nodes that talk to each other: real `rollcall peer` children, as a user of their own, on loopback addresses. Needs root.
//!
//! - `talking`: questions and answers, long, slow and refused ones; nodes that come and go.
//! - `keys`: who has the wrong key, and strangers.
//! - `hostile`: bytes that no node sends, and memory.
//! - `posture`: what the child is and has, and how it ends.
#![expect(clippy::unwrap_used, reason = "all of this is a test, and tests panic")]

#[path = "../common/confined.rs"]
mod confined;
mod hostile;
mod keys;
mod node;
mod posture;
mod talking;
