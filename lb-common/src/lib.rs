//! What the kernel and the agent must agree on, and the decisions that both must make alike.
//!
//! Compiled for BPF and for the host, so that the code that runs in the kernel is the code that is tested. It knows no map,
//! no socket and no packet pointer: the XDP program (lb-ebpf) and the tests bring those.
//!
//! ```text
//! packet -> parse -> flow -> bucket -> owner table -> verdict       packet.rs, address.rs, flow.rs, table.rs, verdict.rs
//! ```
//!
//! Numbers are in the host's byte order; addresses are byte arrays in network order. The maps, all arrays:
//!
//! | map          | key                           | value         | written by    | read by        | lives as long as |
//! |--------------|-------------------------------|---------------|---------------|----------------|------------------|
//! | `CONFIG`     | read-only data                | `Config`      | loader        | XDP, tc        | the program      |
//! | `PORT_RULES` | `Vip::tcp`, `Vip::udp`        | `PortRules`   | loader        | XDP            | the program      |
//! | `TABLES`     | generation * `TABLES` + table | `BucketTable` | agent         | XDP            | the attachment   |
//! | `ACTIVE`     | 0                             | generation    | agent         | XDP            | the attachment   |
//! | `LEASE`      | 0                             | `Lease`       | `renew`       | XDP, agent     | the attachment   |
//! | `COUNTERS`   | `table::counter`              | `Counter`     | XDP, agent    | agent          | the attachment   |
//! | `SEEN`       | table                         | `SeenTable`   | XDP           | agent          | the attachment   |
//! | `HEARD`      | number of a node              | time, ns      | XDP           | agent          | the attachment   |
//! | `CAPTURE`    | ring buffer                   | `Sample`      | XDP           | agent          | the attachment   |
#![no_std]

pub mod address;
pub mod flow;
pub mod packet;
#[cfg(feature = "user")]
mod pod;
pub mod table;
pub mod verdict;
