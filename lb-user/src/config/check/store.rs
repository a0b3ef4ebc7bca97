//! Where generations are kept beside the nodes' own disks.

use std::net::{IpAddr, SocketAddrV4};
use std::ops::Range;
use std::path::PathBuf;

use super::{Problems, absolute};
use crate::config::model::{Endpoint, Etcd, LONGEST_PREFIX, MOST_ENDPOINTS};
use crate::config::problem::Problem;
use crate::config::raw::StoreTable;
use crate::config::spanned::Spanned;

/// What `[config]` says; `Some(None)`: there is nothing but the nodes.
pub(super) fn store(raw: &StoreTable, problems: &mut Problems) -> Option<Option<Etcd>> {
    match problems.choice("store", &raw.store, &[("nodes", false), ("etcd", true)])? {
        true => etcd(raw, problems).map(Some),
        false => nothing(raw, problems).map(|()| None),
    }
}

/// Keys that mean nothing without a store are mistakes.
fn nothing(raw: &StoreTable, problems: &mut Problems) -> Option<()> {
    fn at<T>(raw: Option<&Spanned<T>>) -> Option<Range<usize>> {
        raw.map(Spanned::span)
    }
    let keys = [
        ("endpoints", at(raw.endpoints.first())),
        ("prefix", at(raw.prefix.as_ref())),
        ("ca", at(raw.ca.as_ref())),
        ("certificate", at(raw.certificate.as_ref())),
        ("key", at(raw.key.as_ref())),
        ("user", at(raw.user.as_ref())),
        ("password_file", at(raw.password_file.as_ref())),
    ];
    let given = keys.into_iter().find_map(|(name, span)| Some((name, span?)));
    let Some((name, span)) = given else { return Some(()) };
    let problem = Problem::at(span, format!("`{name}` is for an etcd, and the nodes keep nothing in one"));
    problems.add(problem.hint("add store = \"etcd\" to [config], or remove this"));
    None
}

fn etcd(raw: &StoreTable, problems: &mut Problems) -> Option<Etcd> {
    let endpoints = endpoints(raw, problems);
    let prefix = match &raw.prefix {
        None => Some("/rollcall".to_owned()),
        Some(written) => problems.require(prefix(written.get_ref()), || not_a_prefix(written)),
    };
    let ca = optional("ca", raw.ca.as_ref(), problems);
    let certificate = optional("certificate", raw.certificate.as_ref(), problems);
    let key = optional("key", raw.key.as_ref(), problems);
    let password = optional("password_file", raw.password_file.as_ref(), problems);
    let identity = both(("certificate", &raw.certificate), ("key", &raw.key), problems);
    let account = both(("user", &raw.user), ("password_file", &raw.password_file), problems);
    let (endpoints, ca) = (endpoints?, ca?);
    if ca.is_none()
        && let Some((_, written)) = endpoints.iter().zip(&raw.endpoints).find(|(endpoint, _)| endpoint.tls)
    {
        let problem =
            Problem::at(written.span(), "`ca` is missing: nothing would tell this member from another");
        problems.add(problem.hint("ca = \"/etc/rollcall/etcd-ca.pem\", the CA of its certificate"));
        return None;
    }
    identity?;
    account?;
    let user = raw.user.as_ref().map(|user| user.get_ref().clone());
    Some(Etcd { endpoints, prefix: prefix?, ca, identity: certificate?.zip(key?), user: user.zip(password?) })
}

fn endpoints(raw: &StoreTable, problems: &mut Problems) -> Option<Vec<Endpoint>> {
    if raw.endpoints.is_empty() {
        let problem = Problem::at(raw.store.span(), "`endpoints` is missing: where is that etcd?");
        problems.add(problem.hint("endpoints = [\"https://10.0.0.11:2379\"]"));
        return None;
    }
    if let Some(extra) = raw.endpoints.get(MOST_ENDPOINTS) {
        problems.add(Problem::at(extra.span(), format!("more than {MOST_ENDPOINTS} endpoints")));
        return None;
    }
    let read = raw.endpoints.iter().map(|written| match endpoint(written.get_ref()) {
        Ok(endpoint) => Some(endpoint),
        Err((text, hint)) => {
            problems.add(Problem::at(written.span(), text).hint(hint));
            None
        }
    });
    // All that are wrong are told of.
    let read: Vec<Option<Endpoint>> = read.collect();
    read.into_iter().collect()
}

/// A member, or what is wrong with its spelling and what to do.
fn endpoint(text: &str) -> Result<Endpoint, (String, &'static str)> {
    const SUCH: &str = "\"https://10.0.0.11:2379\" is such";
    let parts = text.split_once("://").and_then(|(scheme, rest)| match scheme {
        "https" => Some((true, rest)),
        "http" => Some((false, rest)),
        _ => None,
    });
    let (tls, rest) =
        parts.ok_or_else(|| (format!("\"{text}\" is not the URL of a member of etcd"), SUCH))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(address) = rest.parse::<SocketAddrV4>().ok().filter(|address| address.port() > 0) {
        return Ok(Endpoint { tls, address });
    }
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    Err(match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(_)) => (format!("\"{text}\" has no port"), "etcd's clients use port 2379"),
        Ok(IpAddr::V6(_)) => (format!("\"{text}\" is an IPv6 address; an IPv4 address is needed here"), SUCH),
        Err(_) => (
            format!(
                "\"{text}\" is not an IPv4 address with a port: the child that talks to etcd is locked in, and looks no names up"
            ),
            "give the address that the name stands for; the member's certificate must be for it",
        ),
    })
}

fn prefix(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let sound = (1..=LONGEST_PREFIX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic())
        && !text.ends_with('/');
    sound.then(|| text.to_owned())
}

fn not_a_prefix(raw: &Spanned<String>) -> Problem {
    let text = format!("\"{}\" cannot be what keys begin with", raw.get_ref());
    Problem::at(raw.span(), text)
        .hint(format!("1 to {LONGEST_PREFIX} letters, digits and signs without spaces, such as /rollcall"))
}

fn optional(what: &str, raw: Option<&Spanned<PathBuf>>, problems: &mut Problems) -> Option<Option<PathBuf>> {
    raw.map_or(Some(None), |written| absolute(what, written, problems).map(Some))
}

/// Both are given, or none.
fn both<A, B>(
    (one, first): (&str, &Option<Spanned<A>>),
    (other, second): (&str, &Option<Spanned<B>>),
    problems: &mut Problems,
) -> Option<()> {
    let (given, missing, span) = match (first, second) {
        (Some(_), Some(_)) | (None, None) => return Some(()),
        (Some(given), None) => (one, other, given.span()),
        (None, Some(given)) => (other, one, given.span()),
    };
    problems.add(Problem::at(span, format!("`{given}` needs `{missing}` beside it")));
    None
}
