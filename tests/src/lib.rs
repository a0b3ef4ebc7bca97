//! The lab: DESIGN's reference network between network namespaces of one machine, and what demo, benches and scenario tests
//! do on it.
//!
//! No test is here (see `tests/`), and nothing of this is part of the product. Reading order: `lab` (the network), `backend`
//! and `node` (the machines in it), `client`, `prober` and `capture` (what is measured, and how), `scenario`, `demo` and `bench`.
//!
//! Nothing here touches the machine's own network: every interface, bridge, address and packet lives in a namespace of the
//! lab. Root is needed.
#![forbid(unsafe_code)]

pub mod backend;
pub mod bench;
pub mod capture;
pub mod client;
pub mod demo;
pub mod estate;
pub mod lab;
pub mod netns;
pub mod node;
pub mod prober;
pub mod report;
pub mod scenario;
pub mod sys;
pub mod traffic;
pub mod verdicts;

/// What the lab and the benches attach beside the XDP program: see lb-ebpf/src/lab.rs.
pub static LAB_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rollcall-lab-xdp.o"));
