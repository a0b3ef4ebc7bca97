//! What keeps guessers and floods from the servers.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use super::Problems;
use crate::config::problem::Problem;
use crate::config::raw::{LogonsTable, ProtectionTable, QuotaTable, RateEntry, Time};
use crate::config::spanned::Spanned;
use crate::proxy::protect::Protection;
use crate::proxy::protect::client::ClientPrefixes;
use crate::proxy::protect::logon::LogonPolicy;
use crate::proxy::protect::rate::{Quota, SiteRates};

/// What `[protection]` says of all sites together, the rest by default.
pub(super) fn protection(raw: &ProtectionTable, problems: &mut Problems) -> Option<Protection> {
    let usual = Protection::default();
    let logons = match &raw.logons {
        Some(table) => logons(table, problems),
        None => Some(usual.logons),
    };
    let rate_clients = number("rate_clients", &raw.rate_clients, usual.rate_clients, 1..=1 << 24, problems);
    let v4 = number("client_prefix_v4", &raw.client_prefix_v4, usual.clients.v4, 8..=32, problems);
    let v6 = number("client_prefix_v6", &raw.client_prefix_v6, usual.clients.v6, 16..=128, problems);
    let clients = ClientPrefixes { v4: v4?, v6: v6? };
    Some(Protection { logons: logons?, clients, rate_clients: rate_clients? })
}

/// The rates of a site: its own, or those of `[protection]`.
pub(super) fn rates(
    own: [Option<&Spanned<RateEntry>>; 2],
    shared: &ProtectionTable,
    problems: &mut Problems,
) -> Option<SiteRates> {
    let [general, authentication] = own;
    let general = quota(general.or(shared.rate.as_ref()), problems);
    let authentication = quota(authentication.or(shared.logon_rate.as_ref()), problems);
    Some(SiteRates { general: general?, authentication: authentication? })
}

fn quota(raw: Option<&Spanned<RateEntry>>, problems: &mut Problems) -> Option<Option<Quota>> {
    let Some(RateEntry::Quota(QuotaTable { requests, per, burst })) = raw.map(Spanned::get_ref) else {
        return Some(None);
    };
    let second = Duration::from_secs(1);
    let per = problems.time("per", per, second..=second * 3600);
    let burst = problems.number("burst", burst.as_ref().unwrap_or(requests), 1..=1_000_000);
    let requests = problems.number("requests", requests, 1..=1_000_000);
    let quota =
        || Some(Quota { requests: NonZeroU32::new(requests?)?, per: per?, burst: NonZeroU32::new(burst?)? });
    quota().map(Some)
}

fn number<T>(
    what: &str,
    raw: &Option<Spanned<T>>,
    usual: T,
    range: std::ops::RangeInclusive<T>,
    problems: &mut Problems,
) -> Option<T>
where
    T: PartialOrd + std::fmt::Display + Copy,
{
    match raw {
        Some(raw) => problems.number(what, raw, range),
        None => Some(usual),
    }
}

fn logons(raw: &Spanned<LogonsTable>, problems: &mut Problems) -> Option<LogonPolicy> {
    fn or<T: Copy>(raw: &Option<Spanned<T>>, usual: T) -> T {
        raw.as_ref().map_or(usual, |raw| *raw.get_ref())
    }
    let time = |raw: &Option<Spanned<Time>>, usual| or(raw, Time(usual)).0;
    let (table, usual) = (raw.get_ref(), LogonPolicy::default());
    let policy = LogonPolicy {
        enabled: table.enabled.unwrap_or(usual.enabled),
        slow_after: or(&table.slow_after, usual.slow_after),
        first_delay: time(&table.first_delay, usual.first_delay),
        longest_delay: time(&table.longest_delay, usual.longest_delay),
        refuse_after: or(&table.refuse_after, usual.refuse_after),
        refuse_for: time(&table.refuse_for, usual.refuse_for),
        forget_after: time(&table.forget_after, usual.forget_after),
        remember_success: time(&table.remember_success, usual.remember_success),
        spray_users: or(&table.spray_users, usual.spray_users),
        spray_share: or(&table.spray_share, usual.spray_share),
        spray_window: time(&table.spray_window, usual.spray_window),
        spray_refuse_for: time(&table.spray_refuse_for, usual.spray_refuse_for),
        pairs: or(&table.pairs, usual.pairs),
        networks: or(&table.networks, usual.networks),
    };
    match policy.check() {
        Ok(()) => Some(policy),
        Err(error) => {
            let span = place(table, error.name).unwrap_or(raw.span());
            problems.add(Problem::of_error(span, error));
            None
        }
    }
}

/// Where the number with this name stands.
fn place(table: &LogonsTable, name: &str) -> Option<Range<usize>> {
    fn at<T>(raw: &Option<Spanned<T>>) -> Option<Range<usize>> {
        raw.as_ref().map(Spanned::span)
    }
    let places = [
        ("slow_after", at(&table.slow_after)),
        ("first_delay", at(&table.first_delay)),
        ("longest_delay", at(&table.longest_delay)),
        ("refuse_after", at(&table.refuse_after)),
        ("refuse_for", at(&table.refuse_for)),
        ("forget_after", at(&table.forget_after)),
        ("remember_success", at(&table.remember_success)),
        ("spray_users", at(&table.spray_users)),
        ("spray_share", at(&table.spray_share)),
        ("spray_window", at(&table.spray_window)),
        ("spray_refuse_for", at(&table.spray_refuse_for)),
        ("pairs", at(&table.pairs)),
        ("networks", at(&table.networks)),
    ];
    places.into_iter().find(|(known, _)| *known == name)?.1
}
