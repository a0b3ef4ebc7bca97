//! Samples of packets for `rollcall capture`: of the reasons that are asked for, and with what the packet says.

use lb_common::address::Address;
use lb_common::packet::protocol;
use lb_common::table::{BucketState, Sample};
use lb_common::verdict::Reason;
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::Kernel;

use crate::frames::*;
use crate::scene::*;

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

#[test]
fn a_sample_says_what_the_packet_was_and_why_it_met_its_fate() {
    for pair in [V4, V6] {
        in_own_netns(move || {
            for (frame, reason, sample) in rows(pair) {
                let sample = Sample { length: frame.len() as u32, reason: reason as u8, ..sample };
                assert_eq!(sampled(u64::MAX, 1, &frame), [bytes(&sample)], "{frame:02x?}");
            }
        });
    }
}

/// Frames, why they meet their fate where all buckets are this node's, and what else their samples say but the length.
fn rows(pair: Pair) -> Vec<(Vec<u8>, Reason, Sample)> {
    let (source, destination) = (Address::from(pair.client), Address::from(pair.vip));
    let ip = Sample {
        source: [source.high, source.low],
        destination: [destination.high, destination.low],
        family: if pair.is_v6() { 6 } else { 4 },
        ..EMPTY
    };
    let ports = Sample { source_port: 40_000, destination_port: 443, ..ip };
    let tcp = |flags| Sample { protocol: protocol::TCP, flags, rule: HTTPS, ..ports };
    let udp = Sample { protocol: protocol::UDP, rule: QUIC, ..ports };
    let without_ports = Sample { protocol: protocol::TCP, ..ip };
    let syn = || pair.tcp(40_000, 443, SYN);
    let cut = syn()[..if pair.is_v6() { 70 } else { 50 }].to_vec();
    vec![
        (syn(), Reason::NewMine, tcp(SYN)),
        (pair.tcp(40_000, 443, PSH | ACK), Reason::Mine, tcp(PSH | ACK)),
        ([syn(), vec![0; 8_000]].concat(), Reason::NewMine, tcp(SYN)),
        (pair.udp(40_000, 443), Reason::Mine, udp),
        (pair.echo(), Reason::Echo, Sample { protocol: pair.icmp_protocol(), ..ip }),
        (pair.frame(GRE, &[0; 8]), Reason::OtherProtocol, Sample { protocol: GRE, ..ip }),
        (later_fragment(pair), Reason::Fragment, without_ports),
        (cut, Reason::Truncated, without_ports),
        (syn()[..30].to_vec(), Reason::Short, EMPTY),
        (arp(1, ROUTER4, VIP4), Reason::ArpAnswered, EMPTY),
    ]
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
