//! What keeps guessers and floods from the servers, and what of it is off.

use crate::config::model::{Cluster, Site};
use crate::proxy::protect::proxies::{Source, TrustedProxy};
use crate::proxy::protect::rate::Quota;

/// A line for each protection: its numbers, or that it is off and how it is switched on.
pub(super) fn lines(cluster: &Cluster) -> Vec<String> {
    let logons = &cluster.protection.logons;
    let mut lines = Vec::new();
    if logons.enabled {
        lines.push(format!(
            "failed logons: a user is delayed from {} failures on, refused from {} on for {:?}",
            logons.slow_after, logons.refuse_after, logons.refuse_for
        ));
    }
    for site in &cluster.sites {
        let rates = [("rate", site.service.rates.general), ("logon rate", site.service.rates.authentication)];
        let on = rates.into_iter().filter_map(|(name, quota)| Some(format!("{name} {}", words(quota?))));
        let on: Vec<String> = on.collect();
        if !on.is_empty() {
            lines.push(format!("{}: each client's {}", name(site), on.join(", ")));
        }
    }
    lines.extend(cluster.trusted_proxies.iter().map(trusted));
    lines.extend(off(cluster));
    lines
}

/// What is off: a sentence each.
pub(super) fn off(cluster: &Cluster) -> Vec<String> {
    let mut off = Vec::new();
    if !cluster.protection.logons.enabled && !cluster.sites.is_empty() {
        off.push(
            "failed logons: off; passwords can be guessed as fast as servers answer; [protection.logons] with enabled = true"
                .to_owned(),
        );
    }
    for site in &cluster.sites {
        let rates = site.service.rates;
        for (key, quota) in [("rate", rates.general), ("logon_rate", rates.authentication)] {
            if quota.is_none() {
                off.push(format!(
                    "{}: {key} off; [protection] with {key} = {{ requests = 600, per = \"1min\" }}",
                    name(site)
                ));
            }
        }
    }
    off
}

fn trusted(proxy: &TrustedProxy) -> String {
    let networks: Vec<String> = proxy.networks.iter().map(ToString::to_string).collect();
    let said = match proxy.source {
        Source::XForwardedFor => "X-Forwarded-For",
        Source::Forwarded => "Forwarded",
        Source::ProxyProtocol => "a PROXY header",
    };
    let connections = if proxy.one_client_per_connection {
        "each of its connections is one client's"
    } else {
        "its connections are shared, so each request has its own server connection, and NTLM and Kerberos are refused"
    };
    format!("proxies in {} are trusted to name clients in {said}; {connections}", networks.join(", "))
}

fn name(site: &Site) -> &str {
    site.names.first().map_or("", String::as_str)
}

fn words(quota: Quota) -> String {
    format!("{} in {:?}, {} at once", quota.requests, quota.per, quota.burst)
}
