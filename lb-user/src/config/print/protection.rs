//! `[protection]`, the rates of sites, and `[[trusted_proxy]]`.

use std::fmt;

use super::{networks, time};
use crate::proxy::protect::Protection;
use crate::proxy::protect::logon::LogonPolicy;
use crate::proxy::protect::proxies::{Source, TrustedProxy};
use crate::proxy::protect::rate::Quota;

/// The table, less the rates, which each site has.
pub(super) struct ProtectionTable<'a>(pub(super) &'a Protection);

impl fmt::Display for ProtectionTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Protection { logons, clients, rate_clients } = self.0;
        writeln!(f, "[protection]\nrate_clients = {rate_clients}")?;
        writeln!(f, "client_prefix_v4 = {}\nclient_prefix_v6 = {}", clients.v4, clients.v6)?;
        let LogonPolicy { enabled, slow_after, first_delay, longest_delay, refuse_after, .. } = logons;
        let LogonPolicy { refuse_for, forget_after, remember_success, .. } = logons;
        let LogonPolicy { spray_users, spray_share, spray_window, spray_refuse_for, .. } = logons;
        let LogonPolicy { pairs, networks, .. } = logons;
        writeln!(f, "[protection.logons]\nenabled = {enabled}\nslow_after = {slow_after}")?;
        writeln!(f, "first_delay = {}\nlongest_delay = {}", time(*first_delay), time(*longest_delay))?;
        writeln!(f, "refuse_after = {refuse_after}\nrefuse_for = {}", time(*refuse_for))?;
        writeln!(f, "forget_after = {}", time(*forget_after))?;
        writeln!(f, "remember_success = {}", time(*remember_success))?;
        writeln!(f, "spray_users = {spray_users}\nspray_share = {spray_share}")?;
        writeln!(f, "spray_window = {}", time(*spray_window))?;
        writeln!(f, "spray_refuse_for = {}", time(*spray_refuse_for))?;
        writeln!(f, "pairs = {pairs}\nnetworks = {networks}")
    }
}

/// Proxies that are alike.
pub(super) struct TrustedProxyTable<'a>(pub(super) &'a TrustedProxy);

impl fmt::Display for TrustedProxyTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TrustedProxy { networks: where_they_are, source, one_client_per_connection } = self.0;
        let source = match source {
            Source::XForwardedFor => "x-forwarded-for",
            Source::Forwarded => "forwarded",
            Source::ProxyProtocol => "proxy-protocol",
        };
        writeln!(f, "[[trusted_proxy]]\nnetworks = {}", networks(where_they_are))?;
        writeln!(f, "client_address = \"{source}\"\none_client_per_connection = {one_client_per_connection}")
    }
}

/// A site's rate.
pub(super) fn rate(quota: Option<Quota>) -> String {
    match quota {
        None => "\"off\"".to_owned(),
        Some(Quota { requests, per, burst }) => {
            format!("{{ requests = {requests}, per = {}, burst = {burst} }}", time(per))
        }
    }
}
