//! Packets in, verdicts and packets out: the program in the kernel against the policy on the host and against what DESIGN
//! says.
//!
//! `frames` makes packets and `scene` the cluster that they meet. Then, from rules to generalities: `table` (every behaviour, one a
//! row), `sockets` (what the kernel's sockets decide), `lease`, `samples`, `random` (kernel and host agree on anything), `oracle`
//! (and both with a second parser), `instances` (no two nodes of a cluster accept one flow), `verifier`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails, in its helpers too")]

mod frames;
mod generator;
mod instances;
mod lease;
mod oracle;
mod random;
mod rows_icmp;
mod rows_ip;
mod rows_link;
mod rows_rules;
mod samples;
mod scene;
mod sockets;
mod table;
mod verifier;
