//! Writes the frames that the fuzzer begins with: one of each kind, in some worlds. `seeds FOLDER`.

#[path = "../../tests/tests/verdicts/frames.rs"]
#[allow(dead_code, reason = "the tests' own builders, of which the seeds need some")]
mod frames;
#[allow(dead_code, reason = "the seeds need no more than its addresses")]
mod world;

use std::net::IpAddr;
use std::path::PathBuf;
use std::{env, fs, io};

use lb_common::packet::protocol;
use lb_common::verdict::HEARING_TEST;

use crate::frames::*;
use crate::world::HEARING_PORT;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or_else(|| io::Error::other("no folder is named"))?);
    fs::create_dir_all(&folder)?;
    let mut frames = Vec::new();
    for (client, vip) in
        [([203, 0, 113, 10].into(), world::VIP4.into()), ([0xfd; 16].into(), world::VIP6.into())]
    {
        frames.extend(frames_of(Pair { client, vip }));
    }
    frames.extend(link_frames());
    // A world of each kind: no tags, one, two; a default host, observing, no lease; every state, every socket.
    let worlds = [[0, 1, 0], [4, 4, 1], [1, 2, 4], [2, 3, 5], [16, 1, 6], [20, 2, 2], [8, 1, 3]];
    for (number, frame) in frames.iter().enumerate() {
        for [flags, state, socket] in worlds {
            let tags: &[u16] = match flags & 3 {
                0 => &[],
                1 => &[7],
                _ => &[5, 7],
            };
            let input = [&[flags, state, socket][..], &tagged(frame, tags)].concat();
            fs::write(folder.join(format!("{number:03}-{flags:02x}{state:02x}{socket:02x}")), input)?;
        }
    }
    Ok(())
}

fn frames_of(pair: Pair) -> Vec<Vec<u8>> {
    let segment = tcp(443, 40_000, ACK, 1);
    let behind = |headers: &[(u8, Vec<u8>)]| {
        let (next, payload) = extended(headers, protocol::TCP, &tcp(40_000, 443, SYN, 0));
        if pair.is_v6() { pair.frame(next, &payload) } else { pair.tcp(40_000, 443, SYN) }
    };
    let hearing = udp(HEARING_PORT, HEARING_PORT, &[&HEARING_TEST[..], &[2]].concat());
    let mut frames: Vec<Vec<u8>> =
        [SYN, ACK, PSH | ACK, FIN | ACK, RST].map(|flags| pair.tcp(40_000, 443, flags)).to_vec();
    frames.extend([143, 8443, 23, 22].map(|port| pair.tcp(40_000, port, SYN)));
    frames.extend([443, 53, 23, 22].map(|port| pair.udp(40_000, port)));
    frames.extend([
        pair.frame(protocol::UDP, &hearing),
        pair.echo(),
        pair.frame(GRE, &[0; 8]),
        pair.too_big(&pair.answer(protocol::TCP, &segment)),
        pair.too_big(&pair.answer(protocol::UDP, &udp(443, 40_000, b"quic"))),
        pair.too_big(&pair.answer(GRE, &[0; 8])),
        pair.icmp(13, &[0; 12]),
        behind(&[(HOP_BY_HOP, options(0)), (ROUTING, options(2)), (DESTINATION, options(1))]),
        behind(&[(FRAGMENT, fragment_header(0, true))]),
        behind(&[(FRAGMENT, fragment_header(9, true))]),
        behind(&vec![(DESTINATION, options(0)); 7]),
    ]);
    frames
}

fn link_frames() -> Vec<Vec<u8>> {
    let (vip4, vip6) = (IpAddr::from(world::VIP4), IpAddr::from(world::VIP6));
    let (router4, router6) = (IpAddr::from([192, 168, 50, 1]), IpAddr::from([0xfe; 16]));
    let nobody = IpAddr::from([0; 16]);
    let fragment = patched(Pair { client: router4, vip: vip4 }.tcp(1, 443, ACK), 20, &[0, 9]);
    vec![
        arp(1, router4, vip4),
        arp(2, router4, vip4),
        arp_from(CLUSTER_MAC, 1, vip4, vip4),
        solicitation(router6, group_of(vip6), vip6, &[]),
        solicitation(router6, vip6, vip6, &SOURCE_MAC_OPTION),
        solicitation(nobody, group_of(vip6), vip6, &[]),
        fragment,
        ethernet(CLUSTER_MAC, 0x88cc, &[0; 46]),
    ]
}
