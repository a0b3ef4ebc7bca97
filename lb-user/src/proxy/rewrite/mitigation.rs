//! What is known to attack Exchange, refused before any server sees it. Pure.
//!
//! The patterns are Microsoft's own, as its mitigation tools (EOMT, EOMTv2) and its Emergency Mitigation service install them as
//! URL Rewrite rules, and what was seen of the attacks after these. They see the request target as it was sent, decoded once and
//! decoded twice, since an earlier pattern of Microsoft's was evaded by encoding, and ignore case. They are no patch.

use std::borrow::Cow;
use std::collections::BTreeSet;

use thiserror::Error;

use super::url::decode;

/// One attack and what shows it.
#[derive(Debug)]
pub struct Mitigation {
    /// By which it is named in the log and switched off.
    pub name: &'static str,
    /// The vulnerability.
    pub cve: &'static str,
    /// What is refused, for the operator.
    pub what: &'static str,
    shows: fn(&Views<'_>) -> bool,
}

/// All of them, in the order in which they are tried. A request that several show is counted for the first.
pub static MITIGATIONS: [Mitigation; 6] = [
    Mitigation {
        name: "proxylogon-anonresource",
        cve: "CVE-2021-26855",
        what: "a cookie X-AnonResource-Backend",
        shows: |views| views.cookie.contains("x-anonresource-backend"),
    },
    Mitigation {
        name: "proxylogon-beresource",
        cve: "CVE-2021-26855",
        what: "a cookie X-BEResource that names a path on a server",
        shows: |views| names_path_on_server(&views.cookie),
    },
    Mitigation {
        name: "proxynotshell",
        cve: "CVE-2022-41040",
        what: "both autodiscover and powershell in the URL",
        shows: |views| views.any(|target| target.contains("autodiscover") && target.contains("powershell")),
    },
    Mitigation {
        name: "proxyshell",
        cve: "CVE-2021-34473",
        what: "autodiscover.json with /mapi/ or /powershell in its query",
        shows: |views| views.any(reaches_behind_autodiscover),
    },
    Mitigation {
        name: "proxyshell-token",
        cve: "CVE-2021-34523",
        what: "X-Rps-CAT in the URL",
        shows: |views| views.any(|target| target.contains("x-rps-cat")),
    },
    Mitigation {
        name: "owassrf",
        cve: "CVE-2022-41080",
        what: "/powershell behind /owa/ in the path",
        shows: |views| views.any(reaches_behind_owa),
    },
];

/// The mitigations that are on.
#[derive(Clone, Debug)]
pub struct Mitigations {
    on: Vec<&'static Mitigation>,
}

/// A name in the list of those to be off that none has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no mitigation {0:?}; hint: the names are {names}", names = names())]
pub struct UnknownMitigation(pub String);

impl Mitigations {
    /// All but those named in `off`.
    pub fn without(off: &BTreeSet<String>) -> Result<Self, UnknownMitigation> {
        let known = |name: &&String| MITIGATIONS.iter().any(|mitigation| mitigation.name == name.as_str());
        if let Some(name) = off.iter().find(|name| !known(name)) {
            return Err(UnknownMitigation(name.clone()));
        }
        Ok(Self { on: MITIGATIONS.iter().filter(|mitigation| !off.contains(mitigation.name)).collect() })
    }

    /// The first attack that a request shows. `target` is its target as sent; `cookie` all of its `Cookie` fields.
    pub fn find(&self, target: &str, cookie: &str) -> Option<&'static Mitigation> {
        let views = Views::new(target, cookie);
        self.on.iter().copied().find(|mitigation| (mitigation.shows)(&views))
    }
}

/// A request in lower case, so that each mitigation need not ignore case anew.
struct Views<'a> {
    /// Raw, decoded once, decoded twice; the later ones only if they differ.
    targets: Vec<Cow<'a, str>>,
    cookie: Cow<'a, str>,
}

impl<'a> Views<'a> {
    fn new(target: &'a str, cookie: &'a str) -> Self {
        let mut targets = vec![lower(Cow::Borrowed(target))];
        for _ in 0..2 {
            let last = targets.last().map_or("", AsRef::as_ref);
            let decoded = decode(last);
            if decoded == last {
                break;
            }
            let decoded = lower(Cow::Owned(decoded.into_owned()));
            targets.push(decoded);
        }
        Self { targets, cookie: lower(Cow::Borrowed(cookie)) }
    }

    fn any(&self, shows: impl Fn(&str) -> bool) -> bool {
        self.targets.iter().any(|target| shows(target))
    }
}

/// `X-BEResource=(.+)/(.+)~(.+)`: a server, a path and a version.
fn names_path_on_server(cookie: &str) -> bool {
    cookie.match_indices("x-beresource=").any(|(at, name)| {
        let value = &cookie[at + name.len()..];
        let inner = |text: &str| text.char_indices().nth(1).map_or(0, |(second, _)| second);
        let slash = value[inner(value)..].find('/').map(|slash| &value[inner(value) + slash + 1..]);
        let tilde = slash
            .and_then(|path| path[inner(path)..].find('~').map(|tilde| &path[inner(path) + tilde + 1..]));
        tilde.is_some_and(|version| !version.is_empty())
    })
}

fn reaches_behind_autodiscover(target: &str) -> bool {
    let behind = target.split_once("autodiscover.json").and_then(|(_, rest)| rest.split_once('?'));
    behind.is_some_and(|(_, query)| query.contains("/mapi/") || query.contains("/powershell"))
}

fn reaches_behind_owa(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    path.split_once("/owa/").is_some_and(|(_, rest)| rest.contains("/powershell"))
}

fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        text
    }
}

fn names() -> String {
    let names: Vec<&str> = MITIGATIONS.iter().map(|mitigation| mitigation.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
