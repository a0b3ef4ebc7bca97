//! request -> TLS -> route -> server -> response.
//!
//! The agent keeps the listening sockets and starts a child, `rollcall proxy`, that serves them under a user of its own
//! (`supervisor`, `spawn`). The two talk over one socket pair (`channel`): down go the settings and the sockets
//! (`snapshot`, `fds`), up come small fixed records. The child (`worker`) gives up what it does not need (`crate::sandbox`),
//! then serves: `listener` accepts, `forward` owns a client connection and the server connection that belongs to it,
//! `health` tests the servers. What there is to decide is decided without sockets: `route`, `balance`, `headers`.

pub mod access;
pub mod activity;
pub mod balance;
pub mod body;
pub mod channel;
pub mod child;
pub mod fds;
pub mod forward;
pub mod headers;
pub mod health;
pub mod listener;
pub mod pace;
pub mod route;
pub mod server_stream;
pub mod service;
pub mod snapshot;
pub mod spawn;
pub mod supervisor;
pub mod tls;
pub mod worker;
