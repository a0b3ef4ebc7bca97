//! request -> TLS -> route -> server -> response.
//!
//! The agent keeps the listening sockets and starts a child, `rollcall proxy`, that serves them under a user of its own
//! (`supervisor`, `spawn`). The two talk over one socket pair (`channel`): down go the settings and the sockets
//! (`snapshot`, `fds`), up come small fixed records. The child (`worker`) gives up what it does not need (`crate::sandbox`),
//! then serves: `listener` accepts, `session` owns a client connection and the server connections that belong to it,
//! `http2` makes such a client of each stream, `exchange` moves a request and its response between a `client` and a server's `link`, `guard` stands before servers, `health` tests the servers of a `group`; `tcp` passes on
//! what is no HTTP, and `splice` moves its bytes. All that a configuration says is one value, `served`, which is replaced whole. What there is to decide is decided without sockets: `http1`, `route`, `balance`, `fields`, `pin`, `pace`.

pub mod access;
pub mod ask;
pub mod balance;
pub mod buffer;
pub mod cause;
pub mod channel;
pub mod child;
pub mod client;
pub mod edits;
pub mod exchange;
pub mod explain;
pub mod farm;
pub mod fds;
pub mod fields;
pub mod group;
pub mod guard;
pub mod headers;
pub mod health;
pub mod hold;
pub mod http1;
pub mod http2;
pub mod idle;
pub mod introduce;
pub mod link;
pub mod listener;
pub mod metrics;
pub mod number;
pub mod pace;
pub mod path;
pub mod pin;
pub mod policy;
pub mod protect;
pub mod recent;
pub mod redirect;
pub mod reporter;
pub mod rewrite;
pub mod room;
pub mod route;
pub mod seen;
pub mod served;
pub mod server_stream;
pub mod service;
pub mod session;
pub mod snapshot;
pub mod socket;
pub mod spawn;
pub mod splice;
mod storage;
pub mod supervisor;
pub mod tcp;
pub mod timer;
pub mod tls;
pub mod upload;
pub mod wildcard;
pub mod worker;
