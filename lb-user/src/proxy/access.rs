//! The access log: one line a request, or a TCP connection, in JSON or in W3C's extended format as IIS writes it. What each field
//! means is in docs/access-log.md.
//!
//! An [`Entry`] borrows all that it says; a line is made in a buffer that its thread uses again, and copied once (`sink`). No
//! password, cookie, `Authorization` or body ever gets into it, and of a query no value whose name sounds like a secret (`mask`).

mod json;
mod line;
mod mask;
mod sink;
mod w3c;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::sink::AccessLog;
use super::cause::Cause;
use super::http1::{Head, Version, Violation};
use super::number::RequestId;
use crate::wall::WallTime;

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The format of a line.
    pub format: Format,
    /// How much of a request's query is logged.
    pub query: Query,
}

/// The format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A JSON object.
    #[default]
    Json,
    /// W3C's extended log file format.
    W3c,
}

/// How much of a request's query is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Query {
    /// All but the values of what sounds like a secret.
    #[default]
    Masked,
    /// Nothing.
    Off,
}

/// A request, or a TCP connection, and how it ended.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When it ended.
    pub time: WallTime,
    /// The client's address.
    pub client: IpAddr,
    /// The address and port that it connected to.
    pub local: SocketAddr,
    /// What its TLS handshake came to; `None`: it came without.
    pub tls: Option<TlsFacts>,
    /// What it asked for.
    pub asked: Asked<'a>,
    /// Who dealt with it.
    pub names: Names<'a>,
    /// What came of it.
    pub outcome: Outcome,
    /// Which list, route, rule or mitigation refused it; empty: none did.
    pub why: &'a str,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// A request.
    Request {
        /// Its number, which the server and the client got, too.
        id: RequestId,
        /// Its head, as far as it was understood.
        head: &'a Head,
        /// The name that it asked for; empty if it was not to be understood.
        host: &'a str,
        /// The user that it says it is from, which nobody has vouched for; empty: none that can be read.
        user: &'a [u8],
    },
    /// A connection to a TCP service.
    Tcp {
        /// The server name in its ClientHello, where that was looked at; else empty.
        sni: &'a str,
    },
}

/// Names of the configuration; empty: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names<'a> {
    /// The site's first name, or the TCP service's.
    pub site: &'a str,
    /// The route's path.
    pub route: &'a str,
    /// The farm, or the TCP service's pool.
    pub farm: &'a str,
    /// The server that answered; none: the proxy itself did.
    pub server: &'a str,
}

/// What came of a request or connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The response's status; 499: the client left before there was one. 0: there is none, as of a TCP connection.
    pub status: u16,
    /// Why the proxy itself answered, or ended it.
    pub cause: Option<Cause>,
    /// What was wrong with the request.
    pub violation: Option<Violation>,
    /// Whether somebody has logged on over the connection to the server.
    pub pinned: bool,
    /// Whether the response's body came to its end, or both sides ended the connection.
    pub whole: bool,
    /// How long it took to connect to the server; `None`: there was a connection, or none came about.
    pub connect: Option<Duration>,
    /// How long the TLS handshake with the server took thereafter.
    pub greet: Option<Duration>,
    /// From the request's head to the head of the server's response.
    pub first_byte: Option<Duration>,
    /// From the request's head to the end of the response.
    pub took: Duration,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the response's body.
    pub sent: u64,
}

/// What a TLS handshake with a client came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's name at IANA.
    pub cipher: &'static str,
    /// Whether it went on with an earlier session.
    pub resumed: bool,
}

impl TlsFacts {
    /// Those of a connection whose handshake is over.
    pub fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        // There is no third one here.
        let is_13 = connection.protocol_version()? == rustls::ProtocolVersion::TLSv1_3;
        let version = if is_13 { "TLSv1.3" } else { "TLSv1.2" };
        let cipher = iana(connection.negotiated_cipher_suite()?.suite().as_str()?);
        let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Some(Self { version, cipher, resumed })
    }
}

/// rustls gives the suites of TLS 1.3 a name of its own.
fn iana(cipher: &'static str) -> &'static str {
    match cipher {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

impl AccessLog {
    /// Writes an entry down; never waits.
    pub fn write(&self, entry: &Entry<'_>, settings: LogSettings) {
        self.log(|line| match settings.format {
            Format::Json => json::line(entry, settings.query, line),
            Format::W3c => w3c::line(entry, settings.query, line),
        });
    }
}

/// A request target's path and query. An absolute target, which is for proxies, is its path alone; of one that is only an
/// authority, a name and password before the host are left out.
pub(super) fn split_target(head: &Head) -> (&[u8], Option<&[u8]>) {
    let target = without_authority(head.target());
    match memchr::memchr(b'?', target) {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// A target without what may be somebody's password (RFC 3986, 3.2.1): it need not be one that is served.
fn without_authority(target: &[u8]) -> &[u8] {
    let path = |rest: &[u8]| rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (start, rest) = target.split_at(path(target));
    match rest.strip_prefix(b"//") {
        Some(authority) if start.ends_with(b":") => &authority[path(authority)..],
        Some(_) | None => memchr::memrchr(b'@', start).map_or(target, |at| &target[at + 1..]),
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2",
    }
}

#[cfg(test)]
mod tests;
