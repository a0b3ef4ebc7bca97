//! HTTP/2 towards clients (RFC 9113), by the `h2` crate. Servers are spoken to in HTTP/1.1.
//!
//! A request is written in the form of HTTP/1 and read back by the strict core (`head`), so that what HTTP/1 may not say,
//! HTTP/2 may not make us say. From there on one `session` for each stream serves it (`stream` is its client), by the same
//! code as an HTTP/1 request. `connection` accepts streams and ends the connection in time; `meter` counts what can only be a
//! flood.
//!
//! The server connections belong to the client connection here too. Each carries one request at a time, streams at the same
//! time have one each, and a few rest for the next ones. Nobody logs on over them: what logs a connection on
//! (`pin`) is taken out of challenges, and a request that does is answered with HTTP_1_1_REQUIRED, as IIS does.
//!
//! What a client can make us keep: for each stream a window of content ([`STREAM_WINDOW`]), a head and [`SEND_BUFFER`] bytes of
//! answer, for all streams [`CONNECTION_WINDOW`] of content; each stream beyond the first takes a place among the proxy's
//! connections. WebSockets over HTTP/2 (RFC 8441) are not offered, so that browsers open them over HTTP/1.1.

pub mod connection;
pub mod head;
mod meter;
pub mod stream;
#[cfg(test)]
mod tests;

/// Content of a request that may come before a server takes it, in bytes.
pub const STREAM_WINDOW: u32 = 128 << 10;

/// The same for all requests of a connection.
pub const CONNECTION_WINDOW: u32 = 256 << 10;

/// Bytes of a response that wait for the client.
pub const SEND_BUFFER: usize = 32 << 10;
