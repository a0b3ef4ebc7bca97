//! What a response's head says of the response.

use super::body::{Length, content_length};
use super::field::Known;
use super::head::Head;
use super::request::{has_token, is_chunked};
use super::{Version, Violation};

/// A response that has one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Length,
    /// Whether the server's connection can carry another request.
    pub keep_alive: bool,
}

impl Framing {
    /// An interim response: another one follows (RFC 9110, 15.2). 101 is none: the connection then speaks another protocol.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100..=199) && self.status != 101
    }
}

/// Reads the framing of the response to a request with `method`, or says why it has none (RFC 9112, 6.3).
pub fn framing(head: &Head, method: &[u8]) -> Result<Framing, Violation> {
    let status = head.status();
    let (chunked, length) = (is_chunked(head)?, content_length(head)?);
    let body = match (chunked, length) {
        (true, Some(_)) => return Err(Violation::TwoLengths),
        _ if method == b"HEAD" || matches!(status, 100..=199 | 204 | 304) => Length::None,
        (true, None) => Length::Chunked,
        (false, Some(0)) => Length::None,
        (false, Some(length)) => Length::Exact(length),
        (false, None) => Length::UntilClose,
    };
    let says = |token| has_token(head.values(Known::Connection), token);
    let asked_to_stay = match head.version() {
        Version::Http11 | Version::Http2 => !says("close"),
        Version::Http10 => says("keep-alive") && !says("close"),
    };
    Ok(Framing { status, body, keep_alive: asked_to_stay && body != Length::UntilClose })
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadLimits;
    use super::*;

    #[test]
    fn a_response_has_one_length_or_is_none() {
        for (method, status, fields, wanted) in [
            ("GET", "200 OK", "Content-Length: 5\r\n", Ok((Length::Exact(5), true))),
            ("GET", "200 OK", "Content-Length: 0\r\n", Ok((Length::None, true))),
            ("GET", "200 OK", "Transfer-Encoding: chunked\r\n", Ok((Length::Chunked, true))),
            ("GET", "200 OK", "", Ok((Length::UntilClose, false))),
            ("GET", "200 OK", "Content-Length: 5\r\nConnection: close\r\n", Ok((Length::Exact(5), false))),
            ("HEAD", "200 OK", "Content-Length: 5\r\n", Ok((Length::None, true))),
            ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n", Ok((Length::None, true))),
            ("GET", "304 Not Modified", "Content-Length: 5\r\n", Ok((Length::None, true))),
            ("GET", "204 No Content", "", Ok((Length::None, true))),
            ("POST", "100 Continue", "", Ok((Length::None, true))),
            ("GET", "101 Switching Protocols", "", Ok((Length::None, true))),
            (
                "GET",
                "200 OK",
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Err(Violation::TwoLengths),
            ),
            ("GET", "200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", Err(Violation::ContentLength)),
            ("GET", "200 OK", "Transfer-Encoding: gzip\r\n", Err(Violation::TransferEncoding)),
        ] {
            let mut head = Head::default();
            let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
            head.read_response(text.as_bytes(), &HeadLimits::default()).unwrap();
            let found = framing(&head, method.as_bytes()).map(|framing| (framing.body, framing.keep_alive));
            assert_eq!(found, wanted, "{method} {status} {fields}");
        }
    }
}
