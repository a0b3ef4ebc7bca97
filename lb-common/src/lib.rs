//! What the kernel and the agent must agree on, and the decisions that both must make alike.
//!
//! Compiled for BPF and for the host, so that the code that runs in the kernel is the code that is tested. It knows no map,
//! no socket and no packet pointer: the XDP program (lb-ebpf) and the tests bring those.
#![no_std]

pub mod flow;
pub mod table;
