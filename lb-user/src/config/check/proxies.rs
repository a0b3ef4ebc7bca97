//! Proxies in front of this one.

use std::collections::BTreeMap;

use super::routes::networks;
use super::{Place, Problems};
use crate::config::problem::Problem;
use crate::config::raw::TrustedProxyTable;
use crate::config::spanned::Spanned;
use crate::proxy::protect::proxies::{Source, TrustedProxy};

/// The checked proxies.
pub(super) fn proxies(
    raw: &[Spanned<TrustedProxyTable>],
    problems: &mut Problems,
) -> Option<Vec<TrustedProxy>> {
    let mut taken = BTreeMap::new();
    let proxies: Vec<_> =
        raw.iter().filter_map(|table| proxy(table.get_ref(), &mut taken, problems)).collect();
    (proxies.len() == raw.len()).then_some(proxies)
}

fn proxy(
    raw: &TrustedProxyTable,
    taken: &mut BTreeMap<String, String>,
    problems: &mut Problems,
) -> Option<TrustedProxy> {
    let written = raw.networks.get_ref();
    if written.is_empty() {
        let problem = Problem::at(raw.networks.span(), "`networks` is empty: nobody is trusted by that");
        problems.add(problem.hint("networks = [\"192.168.50.20\"]"));
    }
    let networks = networks(written, problems);
    for (network, raw) in networks.iter().flatten().zip(written) {
        let text = network.to_string();
        if text.ends_with("/0") {
            let problem = Problem::at(raw.span(), "everybody would be believed, whoever he says he is");
            problems.add(problem.hint("the addresses of the proxies alone"));
        }
        let place = Place { what: "the network", span: raw.span() };
        problems.unique(taken, text, "another trusted proxy", place);
    }
    let sources = [
        ("x-forwarded-for", Source::XForwardedFor),
        ("forwarded", Source::Forwarded),
        ("proxy-protocol", Source::ProxyProtocol),
    ];
    let source = match &raw.client_address {
        None => Some(Source::XForwardedFor),
        Some(written) => problems.choice("client_address", written, &sources),
    };
    let networks = networks.filter(|networks| !networks.is_empty())?;
    let one_client_per_connection = raw.one_client_per_connection;
    Some(TrustedProxy { networks, source: source?, one_client_per_connection })
}
