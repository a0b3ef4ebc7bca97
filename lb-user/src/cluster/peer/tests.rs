//! When a peer that falls silent is suspected, by the millisecond.

use super::*;

const US: Duration = Duration::from_micros(1);
const START: Time = Time::from_nanos(1_000_000_000_000);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const DEFAULT: Timing = Timing { period: Duration::from_millis(20), multiplier: 5 };
const FAST: Timing = Timing { period: Duration::from_millis(5), multiplier: 5 };

/// Last heard at `START`.
fn heard(timing: Timing) -> Peer {
    let node = Priority::new(2).unwrap();
    let mut peer = Peer::new(node, START - timing.suspect());
    peer.standing = Standing::Alive;
    peer.mac = Some(MAC);
    peer.last_heard = Some(START);
    peer
}

/// Microseconds from `START` until it is suspected, if its kernel and its lease answer for so long; `None`: not within 10 s.
fn suspected_after(peer: &mut Peer, timing: &Timing, kernel: Duration, lease: Duration) -> Option<u128> {
    let end = START + Duration::from_secs(10);
    let mut now = START;
    while now < end {
        for probe in peer.probes_due(timing, now) {
            match probe {
                Probe::Kernel if now < START + kernel => {
                    peer.answered(Answer::Kernel { node: peer.node, mac: MAC }, now);
                }
                Probe::Lease { .. } if now < START + lease => {
                    peer.answered(Answer::Lease { mac: MAC }, now);
                }
                Probe::Kernel | Probe::Lease { .. } => {}
            }
        }
        if peer.judge(timing, Duration::ZERO, None, now) {
            return Some(now.since(START).as_micros());
        }
        now = now + US * 25;
    }
    None
}

const NEVER: Duration = Duration::ZERO;
const ALWAYS: Duration = Duration::from_secs(10);

#[test]
fn a_host_that_is_gone_is_suspected_a_quarter_of_a_period_after_the_suspect_time() {
    for (timing, expected) in [(DEFAULT, 105_000), (FAST, 26_250)] {
        let suspected = suspected_after(&mut heard(timing), &timing, NEVER, NEVER).unwrap();
        assert!((expected..=expected + 100).contains(&suspected), "{suspected}");
    }
}

#[test]
fn an_agent_that_is_gone_is_suspected_within_a_period_of_the_suspect_time() {
    // A lease of four fifths, less the margin.
    for (timing, lease, most) in [(DEFAULT, 74_000, 110_000), (FAST, 19_500, 28_500)] {
        let suspected = suspected_after(&mut heard(timing), &timing, ALWAYS, US * lease).unwrap();
        assert!(suspected <= most, "{suspected}");
    }
}

#[test]
fn a_host_that_stands_still_keeps_the_lease_that_it_renewed_just_before() {
    // Its heartbeats do not arrive, so nobody knows when that was: at the latest when it last answered.
    for timing in [DEFAULT, FAST] {
        for quarters in 5..40 {
            let still = timing.period * quarters / 4;
            let suspected = suspected_after(&mut heard(timing), &timing, still, still).unwrap();
            let lease_ends = (still + lease_time(timing.suspect())).as_micros();
            assert!(suspected >= lease_ends.max(timing.suspect().as_micros()), "{still:?}: {suspected}");
        }
    }
}

#[test]
fn a_peer_whose_lease_answers_is_not_suspected() {
    for timing in [DEFAULT, FAST] {
        assert_eq!(suspected_after(&mut heard(timing), &timing, ALWAYS, ALWAYS), None);
    }
}

#[test]
fn rounds_before_its_mac_address_is_known_do_not_count() {
    let mut peer = heard(DEFAULT);
    peer.mac = None;
    let mut asked = Vec::new();
    for step in 0..30 {
        asked.extend(peer.probes_due(&DEFAULT, START + Duration::from_millis(40) + US * 2500 * step));
    }
    assert_eq!(asked, vec![Probe::Kernel; 30], "in every round there is but the kernel to ask");
    let now = START + Duration::from_millis(115);
    peer.answered(Answer::Kernel { node: peer.node, mac: MAC }, now);
    assert!(!peer.judge(&DEFAULT, Duration::ZERO, None, START + DEFAULT.suspect() * 2));
    assert!(peer.probes_due(&DEFAULT, now).contains(&Probe::Lease { mac: MAC }));
}
