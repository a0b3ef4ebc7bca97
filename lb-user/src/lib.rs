//! The library behind the binary `rollcall`: agent, cluster, data plane loader, proxy, configuration, command line.
//!
//! # Layout
//!
//! Three of the four flows (the fourth, packet -> verdict, is lb-common and lb-ebpf), each a folder that reads top to bottom:
//!
//! - [`cluster`]: heartbeat -> peers -> view -> owner table -> maps. `node` is the pure core, `driver` its thread;
//! - [`proxy`]: request -> TLS -> route -> server -> response, in a child process of its own ([`sandbox`]);
//! - [`config`]: config -> parse -> check -> apply.
//!
//! Where nodes share their configuration, [`shared`] is what they sign, seal and keep of it, and which of it is in force;
//! [`peer`] carries what they say to each other, in a child process of its own, too, and [`etcd`] keeps the same in an etcd besides, in another.
//!
//! [`agent`] brings them up and down, [`dataplane`] loads the XDP program and readies the host, [`control`] and [`cli`] face the
//! operator, [`preflight`] looks before anything is changed, [`doctor`] says why a network does not carry the cluster. [`iis`] makes a configuration of what Windows had.
//!
//! # Architecture invariants
//!
//! - Cores never read clock, randomness, files or sockets; [`clock::Time`] is an argument.
//! - Only `agent.rs` spawns, `agent/peering.rs` what follows the other nodes' configuration and answers them, and `agent/serving.rs` its tests and counts; a listener may spawn a task per connection, `dataplane` its grace thread, the events log its threads for
//!   disk and command, and an operator's request what has to wait for the kernel or for events (`agent/operator.rs`).
//! - Only `dataplane/maps.rs` writes maps, but for what the loader puts into a program's own before it is attached.
//! - Nothing but `lb_common::verdict` decides a packet's fate.
//! - The same view gives the same owner table on every node.
//! - A configuration is applied whole or not at all.
//! - Nodes that have the same generations and records agree on which is in force.

pub mod agent;
pub(crate) mod announce;
pub(crate) mod arp;
pub(crate) mod checksum;
pub(crate) mod child;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod doctor;
pub mod etcd;
pub(crate) mod hearing;
pub mod iis;
pub(crate) mod ndp;
pub(crate) mod once;
pub mod peer;
pub mod preflight;
pub mod proxy;
pub mod sandbox;
pub mod shared;
pub mod sys;
pub mod telemetry;
pub mod wall;

// A program that spread flows over 64 buckets would disagree with every other node, and with its own XDP program.
const _: () =
    assert!(lb_common::table::BUCKETS == 4096 || cfg!(test), "few buckets are for simulations only");
