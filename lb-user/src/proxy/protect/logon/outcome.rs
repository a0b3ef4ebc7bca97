//! What a response says about the logon that its request attempted.

use super::super::credentials::Scheme;
use crate::proxy::http1::{Head, Known};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server does not believe it.
    Failed,
    /// The server believes it: this response cannot be had without a logon.
    Succeeded,
    /// Neither is sure: the server broke, the handshake goes on, or the path may be open to everybody.
    Unknown,
}

impl Outcome {
    /// What `answer` says of an attempt by `scheme`. `needed`: whether what was asked for needs a logon ([`needs_logon`]).
    pub fn of(scheme: Scheme, needed: bool, answer: &Head) -> Self {
        match (scheme, answer.status()) {
            (Scheme::Negotiate, 401) if goes_on(answer) => Self::Unknown,
            // A form too, since it may have come with other credentials.
            (Scheme::Basic | Scheme::Ntlm | Scheme::Negotiate | Scheme::Form, 401) => Self::Failed,
            (Scheme::Form, status) => of_form(status, answer),
            (Scheme::Basic | Scheme::Ntlm | Scheme::Negotiate, 200..=299) if needed => Self::Succeeded,
            (Scheme::Basic | Scheme::Ntlm | Scheme::Negotiate, _) => Self::Unknown,
        }
    }
}

/// OWA's logon form answers with a redirect: back to itself with a reason, of which 2 is a wrong name or password, or onwards.
fn of_form(status: u16, answer: &Head) -> Outcome {
    let location = answer.values(Known::Location).next().map(<[u8]>::to_ascii_lowercase);
    let (302, Some(location)) = (status, location) else {
        return Outcome::Unknown;
    };
    let (path, query) = match location.iter().position(|&byte| byte == b'?') {
        Some(at) => (&location[..at], &location[at + 1..]),
        None => (&location[..], &[][..]),
    };
    let back = path.ends_with(b"/owa/auth/logon.aspx");
    let wrong = query.split(|&byte| byte == b'&').any(|field| field == b"reason=2");
    match (back, wrong) {
        (true, true) => Outcome::Failed,
        (true, false) => Outcome::Unknown,
        (false, _) => {
            if gives_cookie(answer) {
                Outcome::Succeeded
            } else {
                Outcome::Unknown
            }
        }
    }
}

/// Only a logon gets the cookie that holds it.
fn gives_cookie(answer: &Head) -> bool {
    let holds =
        |cookie: &[u8]| matches!(cookie.strip_prefix(b"cadata="), Some([first, ..]) if *first != b';');
    answer.values(Known::SetCookie).any(holds)
}

/// Whether the server answers a Negotiate token with one of its own: Kerberos and NEGOEX may take more than two messages.
fn goes_on(answer: &Head) -> bool {
    answer.values(Known::WwwAuthenticate).any(|value| {
        let (scheme, token) = value.split_at(value.len().min(NEGOTIATE.len()));
        scheme.eq_ignore_ascii_case(NEGOTIATE) && !token.trim_ascii().is_empty()
    })
}

/// Whether nobody gets a 2xx here without a logon. Everywhere else one proves nothing: IIS does not look at the credentials of
/// who asks for what is open to all, such as each `healthcheck.htm`, and a guesser could win his tries back there. `path`: in
/// its normal form, without the query.
pub fn needs_logon(method: &[u8], path: &str) -> bool {
    let known = |&(its_method, its_path): &(&str, &str)| {
        method == its_method.as_bytes() && path.trim_end_matches('/').eq_ignore_ascii_case(its_path)
    };
    NEED_LOGON.iter().any(known)
}

const NEGOTIATE: &[u8] = b"negotiate";

const NEED_LOGON: [(&str, &str); 8] = [
    ("POST", "/autodiscover/autodiscover.xml"),
    ("POST", "/ews/exchange.asmx"),
    ("POST", "/mapi/emsmdb"),
    ("POST", "/mapi/nspi"),
    ("POST", "/microsoft-server-activesync"),
    ("POST", "/microsoft-server-activesync/default.eas"),
    ("RPC_IN_DATA", "/rpc/rpcproxy.dll"),
    ("RPC_OUT_DATA", "/rpc/rpcproxy.dll"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::http1::HeadLimits;

    fn outcome(scheme: Scheme, request: (&str, &str), status: u16, fields: &[(&str, &str)]) -> Outcome {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut answer = Head::default();
        let text = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
        answer.read_response(text.as_bytes(), &HeadLimits::default()).unwrap();
        Outcome::of(scheme, needs_logon(request.0.as_bytes(), request.1), &answer)
    }

    #[test]
    fn a_401_is_a_failure_unless_the_handshake_goes_on() {
        let ews = ("POST", "/EWS/Exchange.asmx");
        let (plain, token) = (("www-authenticate", "Negotiate"), ("www-authenticate", "negotiate oQcwBQ=="));
        for (scheme, fields, wanted) in [
            (Scheme::Basic, &[][..], Outcome::Failed),
            (Scheme::Basic, &[token], Outcome::Failed),
            (Scheme::Ntlm, &[plain], Outcome::Failed),
            (Scheme::Ntlm, &[token], Outcome::Failed),
            (Scheme::Negotiate, &[plain], Outcome::Failed),
            (Scheme::Negotiate, &[("www-authenticate", "NTLM"), token], Outcome::Unknown),
            (Scheme::Form, &[], Outcome::Failed),
        ] {
            assert_eq!(outcome(scheme, ews, 401, fields), wanted, "{scheme:?} {fields:?}");
        }
    }

    #[test]
    fn only_what_needs_a_logon_proves_one() {
        for (method, path, status, wanted) in [
            ("POST", "/EWS/Exchange.asmx", 200, Outcome::Succeeded),
            ("POST", "/mapi/emsmdb/", 200, Outcome::Succeeded),
            ("RPC_OUT_DATA", "/rpc/rpcproxy.dll", 200, Outcome::Succeeded),
            ("POST", "/Microsoft-Server-ActiveSync", 200, Outcome::Succeeded),
            ("POST", "/ews/exchange.asmx", 500, Outcome::Unknown),
            ("POST", "/ews/exchange.asmx", 403, Outcome::Unknown),
            ("POST", "/ews/exchange.asmx", 302, Outcome::Unknown),
            ("GET", "/ews/exchange.asmx", 200, Outcome::Unknown),
            ("GET", "/ews/healthcheck.htm", 200, Outcome::Unknown),
            ("POST", "/ews/healthcheck.htm", 200, Outcome::Unknown),
            ("POST", "/owa/auth/logon.aspx", 200, Outcome::Unknown),
            ("OPTIONS", "/microsoft-server-activesync", 200, Outcome::Unknown),
        ] {
            assert_eq!(
                outcome(Scheme::Basic, (method, path), status, &[]),
                wanted,
                "{method} {path} {status}"
            );
        }
    }

    #[test]
    fn owas_form_answers_by_where_it_sends_the_browser() {
        let post = ("POST", "/owa/auth.owa");
        let cookie = ("set-cookie", "cadata=abc; path=/; secure; HttpOnly");
        let to = |location| ("location", location);
        let wrong = to("https://mail.example.test/owa/auth/logon.aspx?url=https%3a%2f%2fx&reason=2");
        for (status, fields, wanted) in [
            (302, &[wrong][..], Outcome::Failed),
            (302, &[wrong, cookie], Outcome::Failed),
            (302, &[to("/OWA/auth/logon.aspx?Reason=2&replaceCurrent=1")], Outcome::Failed),
            (302, &[to("/owa/auth/logon.aspx?reason=25")], Outcome::Unknown),
            (302, &[to("/owa/auth/logon.aspx?reason=3")], Outcome::Unknown),
            (302, &[to("/owa/"), cookie], Outcome::Succeeded),
            (302, &[to("/owa/?reason=2"), cookie], Outcome::Succeeded),
            (302, &[to("/owa/"), ("set-cookie", "cadata=; expires=Thu, 01 Jan 1970")], Outcome::Unknown),
            (302, &[to("/owa/")], Outcome::Unknown),
            (302, &[], Outcome::Unknown),
            (200, &[wrong], Outcome::Unknown),
            (503, &[], Outcome::Unknown),
        ] {
            assert_eq!(outcome(Scheme::Form, post, status, fields), wanted, "{status} {fields:?}");
        }
    }
}
