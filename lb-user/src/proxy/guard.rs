//! What stands between a request and a server: its client's rates, then its logon. Asked once before a request is forwarded
//! ([`Guard::admit`]), and told once when the head of its response is known ([`Ticket::answered`]). Knows nothing of connections, so HTTP/1 and
//! HTTP/2 ask alike.
//!
//! What is decided is decided in `protect`; here it is waited for, counted and told to the operator. A delayed request holds its head
//! and nothing else, and no more than [`MOST_DELAYED`] are delayed at once: one more is refused.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::http1::{Head, Known, Length};
use super::metrics::Judged;
use super::path::NormalPath;
use super::protect::credentials::{Claim, FORM_BYTES, Scheme};
use super::protect::logon::{Attempt, Logons, Outcome, Refused, Verdict, needs_logon};
use super::protect::rate::{Class, Decision, RateLimiter, SiteRates};
use super::protect::{HashKey, Protection};
use super::seen::Seen;
use crate::clock::Time;

/// See the module. Shared by all threads.
#[derive(Debug)]
pub struct Guard {
    rates: RateLimiter,
    logons: Arc<Logons>,
    seen: Arc<Seen>,
    crowd: Arc<Crowd>,
}

/// A request that is about to be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The site's index.
    pub site: usize,
    /// The client's address.
    pub client: IpAddr,
    /// The request's head.
    pub head: &'a Head,
    /// Path and query, as the server gets them.
    pub target: &'a str,
    /// The whole body, if it is one that [`Guard::wants_form`].
    pub form: Option<&'a [u8]>,
}

/// Why a request is refused: 429, `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When it may be worth another try: `Retry-After`.
    pub retry_after: Duration,
    /// For counters and the operator.
    pub why: Why,
}

/// Which protection refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The client's rate.
    #[error("the client asks too often")]
    Rate(Class),
    /// Its failed logons.
    #[error("too many of its logons failed")]
    Logons(Refused),
    /// It is to wait, and too many do.
    #[error("too many logons wait already")]
    Delayed,
}

impl Refusal {
    /// The value of `Retry-After`: whole seconds, at least one.
    pub fn seconds(self) -> u64 {
        let whole = self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0);
        whole.max(1)
    }
}

impl Guard {
    /// A guard for these sites, by their indices, of which `seen` is, too: what happens is counted there.
    pub fn new<'a>(
        settings: &Protection,
        sites: impl IntoIterator<Item = (&'a str, SiteRates)>,
        key: HashKey,
        seen: Arc<Seen>,
    ) -> Self {
        Self {
            rates: RateLimiter::new(sites, settings.clients, settings.rate_clients, key.clone()),
            logons: Logons::new(settings.logons.clone(), settings.clients, key),
            seen,
            crowd: Arc::default(),
        }
    }

    /// The guard of another configuration, which forgets nobody. Logons that are under way are recorded.
    pub fn renewed<'a>(
        &self,
        settings: &Protection,
        sites: impl IntoIterator<Item = (&'a str, SiteRates)>,
        seen: Arc<Seen>,
    ) -> Self {
        Self {
            rates: self.rates.renewed(sites, settings.clients, settings.rate_clients),
            logons: self.logons.renewed(settings.logons.clone(), settings.clients),
            seen,
            crowd: Arc::clone(&self.crowd),
        }
    }

    /// How many bytes of a request's body must be read before it is admitted: those of a logon form. A form that no browser sends is not
    /// read: its user counts as unreadable.
    pub fn wants_form(&self, head: &Head, target: &str, body: Length) -> Option<usize> {
        let Length::Exact(length) = body else {
            return None;
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= FORM_BYTES)?;
        let read = self.logons.is_enabled()
            && head.method() == b"POST"
            && head.values(Known::Expect).next().is_none()
            && is_form(head, NormalPath::of(target.as_bytes()).ok()?.as_str());
        read.then_some(length)
    }

    /// Whose logons were begun to be refused since this was asked last: the latest client, and how many there were.
    pub fn take_refused(&self) -> Option<(IpAddr, Refused, u32)> {
        self.crowd.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Lets a request pass, now or after a while, or refuses it.
    pub async fn admit(&self, asked: Asked<'_>) -> Result<Ticket, Refusal> {
        self.charge(&asked, Class::General)?;
        if !self.logons.is_enabled() && !self.rates.has(asked.site, Class::Authentication) {
            return Ok(Ticket(None));
        }
        if asked.head.values(Known::Authorization).next().is_none() && asked.head.method() != b"POST" {
            return Ok(Ticket(None));
        }
        // A site's policy let no path pass that has no normal form.
        let path = NormalPath::of(asked.target.as_bytes()).ok();
        let path = path.as_ref().map_or("", NormalPath::as_str);
        let Some(claim) = claim(&asked, path) else {
            return Ok(Ticket(None));
        };
        self.charge(&asked, Class::Authentication)?;
        let needed = needs_logon(asked.head.method(), path);
        let attempt = self.judge(asked.client, &claim).await?;
        let (seen, crowd) = (Arc::clone(&self.seen), Arc::clone(&self.crowd));
        Ok(Ticket(Some(Logon { attempt, scheme: claim.scheme, needed, client: asked.client, seen, crowd })))
    }

    fn charge(&self, asked: &Asked<'_>, class: Class) -> Result<(), Refusal> {
        let Decision::Refuse { retry_after } = self.rates.check(asked.site, class, asked.client, Time::now())
        else {
            return Ok(());
        };
        self.seen.metrics.rate_refused(asked.site, class);
        Err(Refusal { retry_after, why: Why::Rate(class) })
    }

    /// Delays a logon as long as it takes. No lock is held meanwhile.
    async fn judge(&self, client: IpAddr, claim: &Claim<'_>) -> Result<Attempt, Refusal> {
        let metrics = &self.seen.metrics;
        let (mut waited, mut delayed) = (Duration::ZERO, None);
        loop {
            let now = Time::now();
            match self.logons.judge(client, claim, waited, now) {
                Verdict::Pass(attempt) => {
                    metrics.logon_judged(if delayed.is_some() { Judged::Delayed } else { Judged::Passed });
                    return Ok(attempt);
                }
                Verdict::Refuse { until, whom } => {
                    metrics.logon_judged(Judged::Refused(whom));
                    return Err(Refusal { retry_after: until.since(now), why: Why::Logons(whom) });
                }
                Verdict::Delay(delay) => {
                    if delayed.is_none() {
                        let Some(place) = Delayed::take(&self.crowd) else {
                            metrics.logon_judged(Judged::Crowded);
                            return Err(Refusal { retry_after: delay, why: Why::Delayed });
                        };
                        delayed = Some(place);
                        if self.crowd.may_tell(now) {
                            tracing::warn!(%client, "logons of a user from this network fail: they are delayed");
                        }
                    }
                    sleep(delay).await;
                    waited += delay;
                }
            }
        }
    }
}

/// A request's right to be forwarded. Dropped, its client left before it was answered, which counts as a failed logon.
#[derive(Debug)]
#[must_use]
pub struct Ticket(Option<Logon>);

#[derive(Debug)]
struct Logon {
    attempt: Attempt,
    scheme: Scheme,
    needed: bool,
    client: IpAddr,
    seen: Arc<Seen>,
    crowd: Arc<Crowd>,
}

impl Ticket {
    /// The server has answered with this head.
    pub fn answered(self, answer: &Head) {
        let Some(Logon { scheme, needed, .. }) = self.0 else {
            return;
        };
        self.record(Outcome::of(scheme, needed, answer));
    }

    /// No server has answered, through no fault of the client's.
    pub fn unanswered(self) {
        self.record(Outcome::Unknown);
    }

    fn record(self, outcome: Outcome) {
        let Some(Logon { attempt, client, seen, crowd, .. }) = self.0 else {
            return;
        };
        let now = Time::now();
        seen.metrics.logon_ended(outcome);
        let Some(refused) = attempt.record(outcome, now) else {
            return;
        };
        crowd.note(client, refused);
        if crowd.may_tell(now) {
            let whom = match refused {
                Refused::Pair => "that user from this network",
                Refused::Network => "this network's users who never logged on there",
            };
            tracing::warn!(%client, whom, "too many logons failed: further ones are refused for a while");
        }
    }
}

/// Those who wait, and what the operator was told. Goes on over configurations.
#[derive(Debug, Default)]
struct Crowd {
    /// Logons that wait now.
    waiting: AtomicU32,
    /// When the operator may be told again, in nanoseconds.
    quiet_until: AtomicU64,
    /// Who began to be refused, and how many did, since the agent was told.
    refused: Mutex<Option<(IpAddr, Refused, u32)>>,
}

impl Crowd {
    fn note(&self, client: IpAddr, whom: Refused) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refused.map_or(0, |(_, _, count)| count);
        *refused = Some((client, whom, before.saturating_add(1)));
    }

    /// Whether the operator may be told of a client now: a guesser must not fill the log.
    fn may_tell(&self, now: Time) -> bool {
        let next = (now + TELL_EVERY).as_nanos();
        let due = |until| (until <= now.as_nanos()).then_some(next);
        self.quiet_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

/// A place among those who wait.
struct Delayed<'a>(&'a AtomicU32);

impl<'a> Delayed<'a> {
    fn take(crowd: &'a Crowd) -> Option<Self> {
        let more = |waiting| (waiting < MOST_DELAYED).then_some(waiting + 1);
        crowd.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(&crowd.waiting))
    }
}

impl Drop for Delayed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The logon that a request attempts. Where it says twice who it is from, it is not known which of it the server reads.
fn claim<'a>(asked: &Asked<'a>, path: &str) -> Option<Claim<'a>> {
    let mut values = asked.head.values(Known::Authorization);
    match (is_form(asked.head, path), values.next(), values.next()) {
        (true, None, _) => Some(Claim::of_owa_form(Some(asked.form.unwrap_or_default()))),
        (true, Some(_), _) => Some(Claim::contradictory(Scheme::Form)),
        (false, Some(_), Some(_)) => Some(Claim::contradictory(Scheme::Basic)),
        (false, Some(value), None) => Claim::of_authorization(value),
        (false, None, _) => None,
    }
}

/// Whether it is a logon by OWA's form, which every part of Exchange that has one posts to a page of this name.
fn is_form(head: &Head, path: &str) -> bool {
    let end = path.as_bytes().last_chunk::<9>();
    head.method() == b"POST" && end.is_some_and(|end| end.eq_ignore_ascii_case(FORM_PAGE))
}

const FORM_PAGE: &[u8; 9] = b"/auth.owa";

/// Logons that are delayed at once, each with a request head of at most 64 KiB.
pub const MOST_DELAYED: u32 = 1024;

/// From one word to the operator to the next.
const TELL_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
