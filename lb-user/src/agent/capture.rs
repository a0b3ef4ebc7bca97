//! Streams samples of what becomes of packets, for `rollcall capture`: how much is shown, for how long, in which words. Runs on a
//! thread of its own, off all others.

use std::net::IpAddr;
use std::time::Duration;

use lb_common::address::Address;
use lb_common::packet::{TcpFlags, protocol};
use lb_common::table;
use lb_common::verdict::Reason;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;

use crate::clock::Time;
use crate::control::api::{Answer, CAPTURE_RATE, Captured, Count, MAX_CAPTURE, Sample};
use crate::dataplane::Counters;
use crate::dataplane::capture::{Capture, Captures};
use crate::dataplane::reasons::{Class, class};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) reasons: Vec<Reason>,
    pub(super) every: u32,
    pub(super) count: Option<u64>,
    pub(super) length: Duration,
}

impl Wanted {
    /// Reads a request; an error is a sentence for the operator.
    pub(super) fn read(
        reasons: &[String],
        every: u32,
        count: Option<u64>,
        seconds: u64,
    ) -> Result<Self, String> {
        let reason = |name: &String| {
            let found = Reason::ALL.iter().copied().find(|reason| reason.as_str() == name);
            found.ok_or_else(|| format!("there is no reason {name:?}; hint: one of {}", names()))
        };
        let reasons: Vec<Reason> = if reasons.is_empty() {
            Reason::ALL.iter().copied().filter(|&reason| class(reason) != Class::NotOurs).collect()
        } else {
            reasons.iter().map(reason).collect::<Result<_, _>>()?
        };
        if every == 0 || !(1..=MAX_CAPTURE).contains(&seconds) {
            return Err(format!("one of `every` at least 1, for 1 to {MAX_CAPTURE} seconds"));
        }
        Ok(Self { reasons, every, count, length: Duration::from_secs(seconds) })
    }
}

fn names() -> String {
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    names.join(", ")
}

/// Where the samples go.
pub(super) struct Destination {
    pub(super) answers: Sender<Answer>,
    /// The client wants no more.
    pub(super) enough: watch::Receiver<bool>,
    /// The port rules' texts, by their numbers less one.
    pub(super) rules: Vec<String>,
}

/// How often the limits are looked at: 1,000 samples fit into the ring buffer, so of a flood at most 50,000 a second are read.
const TURN: Duration = Duration::from_millis(20);

/// Captures until a limit is reached, the client has had enough or is gone, or the agent stops. Blocks. Whatever happens, the
/// usual program is attached when it returns.
pub(super) fn run(captures: &Captures, counters: &Counters, wanted: &Wanted, to: &Destination) {
    let end = match stream(captures, counters, wanted, to) {
        Ok(captured) => Answer::Captured(captured),
        Err(text) => Answer::Error { text },
    };
    // Nobody may be left to tell.
    let _ = to.answers.try_send(end);
}

fn stream(
    captures: &Captures,
    counters: &Counters,
    wanted: &Wanted,
    to: &Destination,
) -> Result<Captured, String> {
    let counted = || counters.sum(|reason| wanted.reasons.contains(&reason));
    let failed = |error: std::io::Error| format!("the capture failed: {error}");
    let mut before = Ok(Count::default());
    let capture = captures.begin(&wanted.reasons, wanted.every, || before = counted());
    let mut capture = capture.map_err(|error| text_of(&error))?;
    let before = before.map_err(failed)?;
    let clock = Clock::read();
    let start = Time::now();
    let mut pace = Pace::new(wanted.count, start);
    while Time::now().since(start) < wanted.length && !to.is_over() && !capture.must_end() && !pace.is_full()
    {
        capture.wait(TURN).map_err(failed)?;
        forward(&mut capture, &mut pace, &clock, to);
        // What comes faster than this is read in the next turn, or lost.
        std::thread::sleep(TURN);
    }
    drop(capture);
    let matched = counted().map_err(failed)?.packets.wrapping_sub(before.packets);
    Ok(Captured { shown: pace.shown, skipped: pace.skipped, matched })
}

/// Sends what the ring buffer holds.
fn forward(capture: &mut Capture<'_>, pace: &mut Pace, clock: &Clock, to: &Destination) {
    let now = Time::now();
    if let Some(packets) = pace.turn(now) {
        let _ = to.answers.try_send(Answer::Skipped { packets });
    }
    for _ in 0..table::CAPTURE_BYTES / size_of::<table::Sample>() {
        let Some(sample) = capture.next_sample() else { return };
        if !pace.admits() {
            continue;
        }
        match to.answers.try_send(Answer::Sample(clock.describe(&sample, &to.rules))) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            // The client reads too slowly.
            Err(TrySendError::Full(_)) => pace.take_back(),
        }
    }
}

impl Destination {
    fn is_over(&self) -> bool {
        self.answers.is_closed() || *self.enough.borrow()
    }
}

/// How much is shown.
#[derive(Debug)]
struct Pace {
    left: u64,
    second: Time,
    in_second: u32,
    skipped_in_second: u64,
    shown: u64,
    skipped: u64,
}

impl Pace {
    fn new(count: Option<u64>, now: Time) -> Self {
        let left = count.unwrap_or(u64::MAX);
        Self { left, second: now, in_second: 0, skipped_in_second: 0, shown: 0, skipped: 0 }
    }

    /// Begins a new second if it is time, and gives how many were skipped in the last one, if any.
    fn turn(&mut self, now: Time) -> Option<u64> {
        if now.since(self.second) < Duration::from_secs(1) {
            return None;
        }
        (self.second, self.in_second) = (now, 0);
        Some(std::mem::take(&mut self.skipped_in_second)).filter(|&skipped| skipped > 0)
    }

    /// Whether one more may be shown; else it counts as skipped. What comes after the last one wanted does not count.
    fn admits(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        if self.in_second == CAPTURE_RATE {
            self.skip();
            return false;
        }
        self.in_second += 1;
        self.left -= 1;
        self.shown += 1;
        true
    }

    /// The last one was not shown after all.
    fn take_back(&mut self) {
        self.left += 1;
        self.shown -= 1;
        self.skip();
    }

    fn skip(&mut self) {
        self.skipped += 1;
        self.skipped_in_second += 1;
    }

    fn is_full(&self) -> bool {
        self.left == 0
    }
}

/// How the clock of the samples relates to that of the world, which is only shown.
struct Clock {
    monotonic: Time,
    unix: Duration,
}

impl Clock {
    fn read() -> Self {
        #[expect(clippy::disallowed_methods, reason = "shown to the operator, decides nothing")]
        let now = std::time::SystemTime::now();
        let unix = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: Time::now(), unix }
    }

    fn describe(&self, sample: &table::Sample, rules: &[String]) -> Sample {
        let at = Time::from_nanos(sample.time);
        let unix = self.unix + at.since(self.monotonic) - self.monotonic.since(at).min(self.unix);
        let address = |[high, low]: [u64; 2]| match sample.family {
            4 => Some(IpAddr::from(Address { v6: false, high: 0, low })),
            6 => Some(IpAddr::from(Address { v6: true, high, low })),
            _ => None,
        };
        let rule = usize::from(sample.rule).checked_sub(1).and_then(|index| rules.get(index));
        Sample {
            time_us: u64::try_from(unix.as_micros()).unwrap_or(u64::MAX),
            protocol: if sample.family == 0 { String::new() } else { protocol_name(sample.protocol) },
            source: address(sample.source),
            source_port: sample.source_port,
            destination: address(sample.destination),
            destination_port: sample.destination_port,
            flags: flag_letters(sample),
            rule: rule.cloned(),
            reason: Reason::of_number(sample.reason).as_str().to_owned(),
            length: sample.length,
        }
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMP => "icmp".to_owned(),
        protocol::ICMPV6 => "icmp6".to_owned(),
        other => other.to_string(),
    }
}

/// As tcpdump writes them.
fn flag_letters(sample: &table::Sample) -> String {
    const PSH: u8 = 0x08;
    let letters =
        [(TcpFlags::SYN, 'S'), (TcpFlags::FIN, 'F'), (TcpFlags::RST, 'R'), (PSH, 'P'), (TcpFlags::ACK, '.')];
    let set = letters.into_iter().filter(|(flag, _)| sample.flags & flag != 0);
    set.map(|(_, letter)| letter).collect()
}

/// With its causes.
fn text_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_reasons_or_gets_all_that_concern_cluster_ips() {
        let wanted = Wanted::read(&["new-mine".into(), "other".into()], 1, None, 5).unwrap();
        assert_eq!(wanted.reasons, [Reason::NewMine, Reason::Other]);
        let all = Wanted::read(&[], 7, Some(3), 300).unwrap();
        assert!(all.reasons.contains(&Reason::HearingTest) && !all.reasons.contains(&Reason::OtherAddress));
        let error = Wanted::read(&["mien".into()], 1, None, 5).unwrap_err();
        assert!(error.starts_with("there is no reason \"mien\"; hint: one of not-ip, too-short"), "{error}");
        for (every, seconds) in [(0, 5), (1, 0), (1, MAX_CAPTURE + 1)] {
            assert!(Wanted::read(&[], every, None, seconds).is_err());
        }
    }

    #[test]
    fn no_more_is_shown_than_wanted_and_what_is_too_fast_is_counted() {
        let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
        let mut pace = Pace::new(Some(1500), at(0));
        let shown = (0..1200).filter(|_| pace.admits()).count();
        assert_eq!((shown, pace.shown, pace.skipped), (1000, 1000, 200));
        assert_eq!(pace.turn(at(999)), None);
        assert_eq!(pace.turn(at(1000)), Some(200));
        assert_eq!(pace.turn(at(2000)), None);
        assert_eq!((0..900).filter(|_| pace.admits()).count(), 500);
        assert!(pace.is_full());
        assert_eq!((pace.shown, pace.skipped), (1500, 200));
        let mut slow = Pace::new(Some(1), at(0));
        assert!(slow.admits());
        slow.take_back();
        assert_eq!((slow.shown, slow.skipped, slow.is_full()), (0, 1, false));
    }

    #[test]
    fn a_sample_is_told_in_words() {
        let clock = Clock { monotonic: Time::from_nanos(5_000), unix: Duration::from_secs(100) };
        let v4 = |bytes| [0, Address::v4(bytes).low];
        let sample = table::Sample {
            time: 7_000,
            source: v4([203, 0, 113, 10]),
            destination: v4([192, 168, 50, 8]),
            length: 74,
            source_port: 40_000,
            destination_port: 443,
            family: 4,
            protocol: 6,
            flags: 0x12,
            reason: Reason::NewMine as u8,
            rule: 1,
            reserved: [0; 3],
        };
        let told = clock.describe(&sample, &["tcp 443".to_owned()]);
        assert_eq!(told.time_us, 100_000_002);
        assert_eq!((told.protocol.as_str(), told.flags.as_str()), ("tcp", "S."));
        assert_eq!((told.rule.as_deref(), told.reason.as_str()), (Some("tcp 443"), "new-mine"));
        assert_eq!(told.source, Some("203.0.113.10".parse().unwrap()));
        let arp = table::Sample { family: 0, protocol: 0, rule: 0, time: 3_000, ..sample };
        let told = clock.describe(&arp, &[]);
        assert_eq!((told.protocol.as_str(), told.source, told.rule), ("", None, None));
        assert_eq!(told.time_us, 99_999_998);
    }
}
