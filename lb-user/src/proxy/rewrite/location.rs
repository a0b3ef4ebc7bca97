//! `Location` on its way back: a server that names itself or its farm is made to name what the client asked for. Pure.
//!
//! ARR does the same (*reverse rewrite host in response headers*). What names nobody here is left as it is: it may be meant.

/// The `Location` for the client in place of `location`; `None` to leave it. `public` is the host that the client knows, with its
/// port unless that is 443; `is_ours` says whether a host (lower case, without port) is a server or a farm behind that.
pub fn rewritten(location: &str, public: &str, is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let rest = after_scheme(location)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = host_of(authority)?.to_ascii_lowercase();
    let slash = if path.starts_with('/') { "" } else { "/" };
    is_ours(&host).then(|| format!("https://{public}{slash}{path}"))
}

/// What follows `http://`, `https://` or `//`.
fn after_scheme(location: &str) -> Option<&str> {
    let (scheme, rest) = location.split_once("//")?;
    let ours =
        scheme.is_empty() || scheme.eq_ignore_ascii_case("http:") || scheme.eq_ignore_ascii_case("https:");
    ours.then_some(rest)
}

/// The host of `host`, `host:port` or `[address]:port`; nothing with user information or backslashes, which two readers take for
/// two hosts.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => (&authority[..colon], &authority[colon + 1..]),
        Some(_) | None => (authority, ""),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let plain = !host.is_empty() && !host.contains(['@', '\\', '%']);
    (plain && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_location_that_names_a_server_or_farm_is_changed() {
        let ours = |host: &str| matches!(host, "ex1.example.test" | "exchange" | "[2001:db8::1]");
        for (location, wanted) in [
            ("https://ex1.example.test/owa/", Some("https://mail.example.test/owa/")),
            ("https://ex1.example.test./owa/", Some("https://mail.example.test/owa/")),
            ("http://EX1.example.test:444/owa/?a=b#c", Some("https://mail.example.test/owa/?a=b#c")),
            ("//exchange/ecp", Some("https://mail.example.test/ecp")),
            ("HTTPS://exchange", Some("https://mail.example.test/")),
            ("https://exchange?x", Some("https://mail.example.test/?x")),
            ("https://[2001:db8::1]:443/owa", Some("https://mail.example.test/owa")),
            ("https://login.example.test/owa", None),
            ("/owa//x", None),
            ("owa/auth.owa", None),
            ("", None),
            ("ftp://exchange/", None),
            ("https://exchange:x/", None),
            ("https://exchange@evil.example/", None),
            ("https://evil.example\\@exchange/", None),
            ("https:///owa", None),
        ] {
            let found = rewritten(location, "mail.example.test", ours);
            assert_eq!(found.as_deref(), wanted, "{location}");
        }
    }
}
