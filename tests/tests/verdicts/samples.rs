//! Samples of packets for `rollcall capture`: of the reasons that are asked for, and with what the packet says.

use lb_common::address::Address;
use lb_common::packet::protocol;
use lb_common::table::{BucketState, Sample};
use lb_common::verdict::Reason;
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::Kernel;

use crate::frames::*;
use crate::scene::*;

#[test]
fn a_sample_says_what_the_packet_was_and_why_it_met_its_fate() {
    const EMPTY: Sample = Sample {
        time: 0,
        source: [0; 2],
        destination: [0; 2],
        length: 0,
        source_port: 0,
        destination_port: 0,
        family: 0,
        protocol: 0,
        flags: 0,
        reason: 0,
        rule: 0,
        reserved: [0; 3],
    };
    for pair in [V4, V6] {
        let (source, destination) = (Address::from(pair.client), Address::from(pair.vip));
        let ip = Sample {
            source: [source.high, source.low],
            destination: [destination.high, destination.low],
            family: if pair.is_v6() { 6 } else { 4 },
            ..EMPTY
        };
        let ports = |destination_port| Sample { source_port: 40_000, destination_port, ..ip };
        let tcp = Sample { protocol: protocol::TCP, ..ports(443) };
        let udp = Sample { protocol: protocol::UDP, ..ports(443) };
        let echo = Sample { protocol: pair.icmp_protocol(), ..ip };
        let fragment = Sample { protocol: protocol::TCP, ..ip };
        // Its length is 0 here, and filled in below.
        let rows = [
            (
                pair.tcp(40_000, 443, SYN),
                Sample { flags: SYN, rule: HTTPS, reason: Reason::NewMine as u8, ..tcp },
            ),
            (
                pair.tcp(40_000, 443, PSH | ACK),
                Sample { flags: PSH | ACK, rule: HTTPS, reason: Reason::Mine as u8, ..tcp },
            ),
            (pair.udp(40_000, 443), Sample { rule: QUIC, reason: Reason::Mine as u8, ..udp }),
            (pair.echo(), Sample { reason: Reason::Echo as u8, ..echo }),
            (pair.frame(GRE, &[0; 8]), Sample { protocol: GRE, reason: Reason::OtherProtocol as u8, ..ip }),
            (later_fragment(pair), Sample { reason: Reason::Fragment as u8, ..fragment }),
            (
                pair.tcp(40_000, 443, SYN)[..50].to_vec(),
                if pair.is_v6() {
                    Sample { reason: Reason::Short as u8, ..EMPTY }
                } else {
                    Sample { reason: Reason::Truncated as u8, ..fragment }
                },
            ),
            (arp(1, ROUTER4, VIP4), Sample { reason: Reason::ArpAnswered as u8, ..EMPTY }),
            (
                [pair.tcp(40_000, 443, SYN), vec![0; 8_000]].concat(),
                Sample { flags: SYN, rule: HTTPS, reason: Reason::NewMine as u8, ..tcp },
            ),
        ];
        in_own_netns(move || {
            for (frame, sample) in rows {
                let length = frame.len() as u32;
                assert_eq!(
                    sampled(u64::MAX, 1, &frame),
                    [bytes(&Sample { length, ..sample })],
                    "{frame:02x?}"
                );
            }
        });
    }
}

#[test]
fn only_the_reasons_that_are_asked_for_are_sampled() {
    in_own_netns(|| {
        let syn = V4.tcp(40_000, 443, SYN);
        let new = 1 << Reason::NewMine as u8;
        assert_eq!(sampled(new, 1, &syn).len(), 1);
        assert_eq!(sampled(!new, 1, &syn).len(), 0);
        assert_eq!(sampled(u64::MAX, 0, &syn).len(), 0);
    });
}

/// The samples of one frame where all buckets are this node's, as bytes without the time, which is never 0.
fn sampled(reasons: u64, every: u32, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut setting = Scene::new().setting();
    fill(&mut setting, BucketState::Mine);
    setting.config.capture_reasons = reasons;
    setting.config.capture_every = every;
    let mut kernel = Kernel::load(&setting).unwrap();
    feed_both(&mut kernel, &setting, frame);
    kernel
        .samples()
        .iter()
        .map(|sample| {
            let (time, rest) = sample.split_at(8);
            assert_ne!(time, [0; 8]);
            rest.to_vec()
        })
        .collect()
}

/// As the agent reads it, without the time.
fn bytes(sample: &Sample) -> Vec<u8> {
    let words = [sample.source, sample.destination].concat();
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(sample.length.to_ne_bytes());
    bytes.extend(sample.source_port.to_ne_bytes());
    bytes.extend(sample.destination_port.to_ne_bytes());
    bytes.extend([sample.family, sample.protocol, sample.flags, sample.reason, sample.rule]);
    bytes.extend(sample.reserved);
    bytes
}

fn later_fragment(pair: Pair) -> Vec<u8> {
    let segment = tcp(40_000, 443, ACK, 1);
    if pair.is_v6() {
        let (next, payload) = extended(&[(FRAGMENT, fragment_header(1, true))], protocol::TCP, &segment);
        pair.frame(next, &payload)
    } else {
        patched(pair.frame(protocol::TCP, &segment), 20, &[0, 1])
    }
}
