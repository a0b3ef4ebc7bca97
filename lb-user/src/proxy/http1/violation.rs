//! Why a message is refused.

use thiserror::Error;

/// A message that could be read in more than one way, or is too big. The connection that it came over ends: where the next
/// message begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Violation {
    /// A line ends with LF alone (RFC 9112, 2.2 allows to take that for an end; not all do).
    #[error("a line ends without CR")]
    BareLf,
    /// The first line is not method, target and version, one space apart (RFC 9112, 3), or not a status line (4).
    #[error("the first line is malformed")]
    StartLine,
    /// Another protocol version than HTTP/1.0 and HTTP/1.1.
    #[error("the protocol version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// The target has a byte that no URI has, a fragment, or a form that its method does not have (RFC 9112, 3.2).
    #[error("the request target is malformed")]
    Target,
    /// The target is longer than allowed.
    #[error("the request target is too long")]
    TargetTooLong,
    /// A field begins with white space: the line before would go on (obs-fold, RFC 9112, 5.2).
    #[error("a header field goes on over a second line")]
    Fold,
    /// A field has no colon, no name, or a name that is no token (RFC 9110, 5.6.2), such as one with a space before the colon.
    #[error("a header field's name is malformed")]
    FieldName,
    /// A field's value has a control character (RFC 9110, 5.5).
    #[error("a header field's value has a control character")]
    FieldValue,
    /// More fields than allowed.
    #[error("there are too many header fields")]
    TooManyFields,
    /// The head is longer than allowed.
    #[error("the header is too long")]
    HeadTooLong,
    /// None or several `Host` fields, or one that is no host (RFC 9112, 3.2).
    #[error("there is not exactly one valid Host")]
    Host,
    /// An absolute target whose host is not the one of `Host`.
    #[error("the target names another host than Host")]
    OtherHost,
    /// Several lengths, or one that is no plain number (RFC 9112, 6.3).
    #[error("Content-Length is not one plain number")]
    ContentLength,
    /// A transfer coding that is not exactly `chunked`, or one in HTTP/1.0 (RFC 9112, 6.1).
    #[error("Transfer-Encoding is not plainly chunked")]
    TransferEncoding,
    /// Both lengths at once: request smuggling's oldest way (RFC 9112, 6.3).
    #[error("there are both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// A chunk's size, extension or end is malformed (RFC 9112, 7.1).
    #[error("a chunk is malformed")]
    Chunk,
    /// More trailer bytes than allowed.
    #[error("the trailer is too long")]
    TrailerTooLong,
    /// A field that only HTTP/1 has, in HTTP/2 (RFC 9113, 8.2.2).
    #[error("a header field belongs to HTTP/1 alone")]
    Http1Field,
    /// `CONNECT`: this is no forward proxy.
    #[error("tunnels are not served")]
    Tunnel,
}

impl Violation {
    /// The name in the log and in docs/framing.md.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BareLf => "BareLf",
            Self::StartLine => "StartLine",
            Self::Version => "Version",
            Self::Target => "Target",
            Self::TargetTooLong => "TargetTooLong",
            Self::Fold => "Fold",
            Self::FieldName => "FieldName",
            Self::FieldValue => "FieldValue",
            Self::TooManyFields => "TooManyFields",
            Self::HeadTooLong => "HeadTooLong",
            Self::Host => "Host",
            Self::OtherHost => "OtherHost",
            Self::ContentLength => "ContentLength",
            Self::TransferEncoding => "TransferEncoding",
            Self::TwoLengths => "TwoLengths",
            Self::Chunk => "Chunk",
            Self::TrailerTooLong => "TrailerTooLong",
            Self::Http1Field => "Http1Field",
            Self::Tunnel => "Tunnel",
        }
    }

    /// Whether all that is wrong with a head is that it is too big: 414 or 431.
    pub fn is_excess(self) -> bool {
        matches!(self.status(), 414 | 431)
    }

    /// The status that a client is answered with (RFC 9110, 15; 431: RFC 6585, 5).
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::TooManyFields | Self::HeadTooLong => 431,
            Self::Tunnel => 501,
            Self::Version => 505,
            Self::BareLf
            | Self::StartLine
            | Self::Target
            | Self::Fold
            | Self::FieldName
            | Self::FieldValue
            | Self::Host
            | Self::OtherHost
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::TwoLengths
            | Self::Chunk
            | Self::TrailerTooLong
            | Self::Http1Field => 400,
        }
    }
}
