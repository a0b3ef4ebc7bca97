//! The lab: DESIGN's reference network between network namespaces of one machine, and what demo, benches and scenario tests
//! do on it.
//!
//! No test is here (see `tests/`), and nothing of this is part of the product. Reading order: `lab` (the network), `backend`
//! and `node` (the machines in it), `client`, `prober` and `capture` (what is measured, and how), `scenario`, `demo` and `bench`.
//! Beside the published site there is a smaller service, `responder`, which answers TCP and UDP with the node's name; its clients
//! are `caller`, `asker` and `pinger`, and `mixed` is a scenario with all of them. `exchange` has servers that know users, and the users;
//! `postfix` is the edge host. `shared` is the configuration that nodes share, by the commands of operators. `soak` has scenarios that last. `stalls` tells a
//! machine that stood still from a cluster that did.
//!
//! Nothing here touches the machine's own network: every interface, bridge, address and packet lives in a namespace of the
//! lab. Root is needed.
#![forbid(unsafe_code)]

pub mod asker;
pub mod backend;
pub mod bench;
pub mod caller;
pub mod capture;
pub mod client;
pub mod container;
pub mod demo;
pub mod estate;
pub mod etcd;
pub mod exchange;
pub mod hostile;
pub mod lab;
pub mod mixed;
pub mod netns;
pub mod node;
pub mod pinger;
pub mod postfix;
pub mod prober;
pub mod report;
pub mod responder;
pub mod scenario;
pub mod shared;
pub mod soak;
pub mod stalls;
pub mod stress;
pub mod syn_flood;
pub mod sys;
pub mod traffic;
pub mod verdicts;
pub mod watch;

/// What the lab and the benches attach beside the XDP program: see lb-ebpf/src/lab.rs.
pub static LAB_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rollcall-lab-xdp.o"));
