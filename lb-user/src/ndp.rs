//! Neighbour discovery (RFC 4861), as far as the start and announcements need it: the question whether an address is taken, its
//! answer, and the news of who has it. The XDP program answers by lb-common's own code.

use std::net::Ipv6Addr;

use crate::checksum::checksum;

/// Enough of a frame for the advertisements that are read here.
pub(crate) const NDP_FRAME: usize = 128;

/// Ethernet, IPv6 and the message up to its first option.
const HEAD: usize = 14 + 40 + 24;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// The advertisement's flag that it replaces what its hearers knew.
const OVERRIDE: u8 = 0x20;
const TARGET_OPTION: u8 = 2;

/// All nodes of the link, which every one of them listens to.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The question who has `address`, from nobody (RFC 4862, section 5.4.2), so that nobody learns anything from it.
pub(crate) fn question(address: Ipv6Addr, own_mac: [u8; 6]) -> Vec<u8> {
    message(own_mac, (Ipv6Addr::UNSPECIFIED, solicited_node(address)), [SOLICITATION, 0], address, &[])
}

/// The news, to all, that `address` is at `mac` (RFC 4861, section 7.2.6). Sent from `own_mac`, whatever it says.
pub(crate) fn announcement(address: Ipv6Addr, mac: [u8; 6], own_mac: [u8; 6]) -> Vec<u8> {
    let [a, b, c, d, e, f] = mac;
    let option = [TARGET_OPTION, 1, a, b, c, d, e, f];
    message(own_mac, (address, ALL_NODES), [ADVERTISEMENT, OVERRIDE], address, &option)
}

/// Who has which address, by an advertisement; the Ethernet source where it does not say. `None`: another frame.
pub(crate) fn advertised(frame: &[u8]) -> Option<(Ipv6Addr, [u8; 6])> {
    let head = frame.first_chunk::<HEAD>()?;
    // Without a forwarding router in between (section 7.1.2); with no extension header, as nobody sends them.
    let genuine = head[12..14] == [0x86, 0xdd] && head[20..22] == [ICMPV6, 255] && head[54] == ADVERTISEMENT;
    genuine.then_some(())?;
    let target: [u8; 16] = head[62..78].try_into().ok()?;
    let mut options = &frame[HEAD..];
    while let [kind, length, rest @ ..] = options {
        // Such a message is void (section 4.6).
        (*length > 0).then_some(())?;
        if let (&TARGET_OPTION, Some(mac)) = (kind, rest.first_chunk::<6>()) {
            return Some((target.into(), *mac));
        }
        options = options.get(usize::from(*length) * 8..)?;
    }
    Some((target.into(), head[6..12].try_into().ok()?))
}

/// The group that the owner of `address` listens to for questions (RFC 4291, section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | high & 0xff, low)
}

/// A message of type and flags about `target`, to a multicast address.
fn message(
    own_mac: [u8; 6],
    (source, destination): (Ipv6Addr, Ipv6Addr),
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: &[u8],
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend(option);
    let length = body.len() as u8;
    let pseudo = [0, 0, 0, length, 0, 0, 0, ICMPV6];
    let sum = checksum(&[&source.octets(), &destination.octets(), &pseudo, &body]);
    body[2..4].copy_from_slice(&sum);
    // RFC 2464, section 7.
    let [.., a, b, c, d] = destination.octets();
    let mut frame = vec![0x33, 0x33, a, b, c, d];
    frame.extend(own_mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 6];
    const CLUSTER: [u8; 6] = [0x03, 0xbf, 192, 168, 50, 8];

    #[test]
    fn a_question_comes_from_nobody_and_goes_to_the_solicited_node_group() {
        let address: Ipv6Addr = "2001:db8::12:3456".parse().unwrap();
        let frame = question(address, OWN);
        assert_eq!(frame[..22], *b"\x33\x33\xff\x12\x34\x56\x02\0\0\0\0\x06\x86\xdd\x60\0\0\0\0\x18\x3a\xff");
        assert_eq!(frame[22..38], [0; 16]);
        assert_eq!(frame[38..54], "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(frame[54..56], [135, 0]);
        assert_eq!(frame[62..], address.octets());
        assert!(is_sound(&frame));
    }

    #[test]
    fn an_announcement_overrides_and_comes_from_the_own_mac() {
        let address: Ipv6Addr = "fd00::8".parse().unwrap();
        let frame = announcement(address, CLUSTER, OWN);
        assert_eq!(frame[..12], *b"\x33\x33\0\0\0\x01\x02\0\0\0\0\x06");
        assert_eq!(frame[22..38], address.octets());
        assert_eq!(frame[54], 136);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
        assert_eq!(frame[78..], [2, 1, 0x03, 0xbf, 192, 168, 50, 8]);
        assert!(is_sound(&frame));
        assert_eq!(advertised(&frame), Some((address, CLUSTER)));
        assert_eq!(advertised(&frame[..78]), Some((address, OWN)), "without the option");
        assert_eq!(advertised(&question(address, OWN)), None);
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_decoder_panic(mut frame in prop::collection::vec(any::<u8>(), 0..120), genuine: bool) {
            if genuine && frame.len() > 54 {
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                frame[20..22].copy_from_slice(&[58, 255]);
                frame[54] = 136;
            }
            let _ = advertised(&frame);
        }
    }

    /// Whether the checksum is right: then the sum over everything is zero.
    fn is_sound(frame: &[u8]) -> bool {
        let pseudo = [0, 0, 0, frame[19], 0, 0, 0, 58];
        checksum(&[&frame[22..54], &pseudo, &frame[54..]]) == [0, 0]
    }
}
