//! HTTP/1 as bytes: heads, bodies and their framing, read strictly and written anew. Pure.
//!
//! What an HTTP message *is* must not depend on who reads it. So this core takes only what RFC 9112 has one reading for, refuses
//! the rest with a [`Violation`], and never copies framing: what leaves here was framed here. Which requests are then
//! answered, and by whom, is not decided here.
//!
//! ```text
//! bytes -> Scanner -> Head -> request::Framing  -> Body -> pieces -> Encoder -> bytes
//!                          -> response::Framing -/
//! ```

mod body;
mod chunked;
mod encode;
mod field;
mod head;
pub mod request;
pub mod response;
mod violation;

pub use body::{Body, Length, Piece};
pub use chunked::Trailers;
pub use encode::{Encoder, write_field};
pub use field::{Field, Known};
pub use head::{Head, HeadLimits, Scanner, is_token};
pub use violation::Violation;

/// What a message says of its protocol. Others are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`: no chunks, and one message a connection unless asked otherwise.
    Http10,
    /// `HTTP/1.1`.
    Http11,
    /// HTTP/2, in which a message has no first line and bodies end by themselves: see [`Head::read_translated`].
    Http2,
}
