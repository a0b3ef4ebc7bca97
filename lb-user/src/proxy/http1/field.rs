//! Header fields: where they lie in their head, and which of them this proxy knows.

/// A part of a head's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// From `start` to `end`, which a head's greatest length bounds.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let short = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: short(start), end: short(end) }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        let at = |at| usize::try_from(at).unwrap_or(usize::MAX);
        bytes.get(at(self.start)..at(self.end)).unwrap_or_default()
    }
}

/// A field's place, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) known: Known,
}

/// A header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it was written.
    pub name: &'a [u8],
    /// Without white space around it.
    pub value: &'a [u8],
    /// What it is.
    pub known: Known,
}

/// The fields that this proxy reads, writes or keeps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    Te,
    Trailer,
    Upgrade,
    Expect,
    Authorization,
    WwwAuthenticate,
    PersistentAuth,
    Cookie,
    SetCookie,
    Location,
    UserAgent,
    Referer,
    RequestId,
    StrictTransportSecurity,
    /// What only a proxy may say, and what Exchange's front end says to its back end.
    ProxySays,
    /// Ends the affinity to a server (ARR's `Arr-Disable-Session-Affinity`).
    DisableAffinity,
    /// Its name has a `_`, which IIS cannot tell from `-`: an alias of any other field.
    Alias,
    Other,
}

impl Known {
    /// What the field `name` is.
    pub fn of(name: &[u8]) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let among = |names: &[(&str, Self)]| {
            let found = names.iter().find(|(other, _)| is(other));
            found.map_or(Self::Other, |(_, known)| *known)
        };
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        let found = match first {
            b'h' => among(&[("host", Self::Host)]),
            b'c' => among(&[
                ("cookie", Self::Cookie),
                ("connection", Self::Connection),
                ("content-length", Self::ContentLength),
            ]),
            b't' => among(&[
                ("te", Self::Te),
                ("trailer", Self::Trailer),
                ("transfer-encoding", Self::TransferEncoding),
            ]),
            b'k' => among(&[("keep-alive", Self::KeepAlive)]),
            b'p' => among(&[
                ("proxy-connection", Self::ProxyConnection),
                ("proxy-authenticate", Self::ProxyAuthenticate),
                ("proxy-authorization", Self::ProxyAuthorization),
                ("persistent-auth", Self::PersistentAuth),
            ]),
            b'u' => among(&[("upgrade", Self::Upgrade), ("user-agent", Self::UserAgent)]),
            b'e' => among(&[("expect", Self::Expect)]),
            b'a' => among(&[
                ("authorization", Self::Authorization),
                ("arr-disable-session-affinity", Self::DisableAffinity),
            ]),
            b'w' => among(&[("www-authenticate", Self::WwwAuthenticate)]),
            b's' => among(&[
                ("set-cookie", Self::SetCookie),
                ("strict-transport-security", Self::StrictTransportSecurity),
            ]),
            b'l' => among(&[("location", Self::Location)]),
            b'r' => among(&[("referer", Self::Referer)]),
            b'f' => among(&[("forwarded", Self::ProxySays), ("front-end-https", Self::ProxySays)]),
            b'x' => of_x(name),
            _ => Self::Other,
        };
        if found == Self::Other && name.contains(&b'_') { Self::Alias } else { found }
    }

    /// Whether what a client says there is anybody's business: fields that only a proxy may write, and aliases of others, are removed.
    pub fn crosses(self) -> bool {
        !matches!(self, Self::ProxySays | Self::RequestId | Self::Alias)
    }

    /// Belongs to one connection, and does not cross a proxy (RFC 9110, 7.6.1).
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

fn of_x(name: &[u8]) -> Known {
    let begins = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if is("x-request-id") {
        Known::RequestId
    } else if ["x-forwarded-", "x-arr-"].into_iter().any(begins) || PROXY_SAYS.into_iter().any(is) {
        Known::ProxySays
    } else {
        Known::Other
    }
}

/// Beside `X-Forwarded-*` and `X-ARR-*`.
const PROXY_SAYS: [&str; 8] = [
    "x-real-ip",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "x-commonaccesstoken",
    "x-isfromcafe",
    "x-beresource",
    "x-anonresource-backend",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_in_any_case_and_never_by_a_part_of_its_name() {
        for (name, known) in [
            ("Host", Known::Host),
            ("hOST", Known::Host),
            ("hosts", Known::Other),
            ("x-host", Known::Other),
            ("Content-Length", Known::ContentLength),
            ("content_length", Known::Alias),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("X-Forwarded-For", Known::ProxySays),
            ("X-FORWARDED-anything", Known::ProxySays),
            ("X_Forwarded_For", Known::Alias),
            ("X-Forwarded_For", Known::Alias),
            ("X-ARR-LOG-ID", Known::ProxySays),
            ("X-Original-URL", Known::ProxySays),
            ("Front-End-Https", Known::ProxySays),
            ("Forwarded", Known::ProxySays),
            ("X-BEResource", Known::ProxySays),
            ("X-BEResource2", Known::Other),
            ("X-RequestId", Known::Other),
            ("X-Request-Id", Known::RequestId),
            ("", Known::Other),
        ] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        }
    }
}
