//! Neighbour discovery (RFC 4861), as far as the start, announcements and the gateway need it: the questions whether an address is taken
//! and whether a host still answers, their answers, and the news of who has an address. The XDP program answers by lb-common's own code.

use std::net::Ipv6Addr;

use crate::checksum::checksum;

/// Enough of a frame for the advertisements that are read here.
pub(crate) const NDP_FRAME: usize = 128;

/// Ethernet, IPv6 and the message up to its first option.
const HEAD: usize = 14 + 40 + 24;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// The advertisement's flag that it answers a question.
const SOLICITED: u8 = 0x40;
/// The advertisement's flag that it replaces what its hearers knew.
const OVERRIDE: u8 = 0x20;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;

/// Hop limit of a packet that no router has forwarded.
const FROM_THIS_LINK: u8 = 255;

/// All nodes of the link, which every one of them listens to.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The question who has `address`, from nobody (RFC 4862, section 5.4.2), so that nobody learns anything from it.
pub(crate) fn question(address: Ipv6Addr, own_mac: [u8; 6]) -> Vec<u8> {
    message(own_mac, (Ipv6Addr::UNSPECIFIED, solicited_node(address)), [SOLICITATION, 0], address, &[])
}

/// The question whether `address` answers the host with `own` addresses (section 7.2.2); the answer comes to that host alone.
pub(crate) fn solicitation(address: Ipv6Addr, own: (Ipv6Addr, [u8; 6])) -> Vec<u8> {
    let [a, b, c, d, e, f] = own.1;
    let option = [SOURCE_OPTION, 1, a, b, c, d, e, f];
    message(own.1, (own.0, solicited_node(address)), [SOLICITATION, 0], address, &option)
}

/// Whether the frame is the answer of `address` to what the host with `own` addresses asked: a valid advertisement (section 7.1.2), solicited,
/// to this host, with no extension header, as nobody sends them.
pub(crate) fn is_answer(frame: &[u8], address: Ipv6Addr, own: (Ipv6Addr, [u8; 6])) -> bool {
    let Some(head) = frame.first_chunk::<HEAD>() else { return false };
    let ours = head[..6] == own.1 && head[6..12] != own.1 && head[38..54] == own.0.octets();
    let of_this_link = head[12..14] == [0x86, 0xdd] && head[20..22] == [ICMPV6, FROM_THIS_LINK];
    let advertises = head[54..56] == [ADVERTISEMENT, 0] && head[58] & SOLICITED != 0;
    let about = head[62..78] == address.octets() && !address.is_multicast();
    let length = u16::from_be_bytes([head[18], head[19]]);
    // Behind the packet the frame may be padded; one that does not hold all of the packet is damaged.
    let Some(body) = frame.get(54..54 + usize::from(length)) else { return false };
    let pseudo = [0, 0, head[18], head[19], 0, 0, 0, ICMPV6];
    let sound = || checksum(&[&head[22..54], &pseudo, body]) == [0, 0] && are_whole(body.get(24..));
    head[14] >> 4 == 6 && ours && of_this_link && advertises && about && sound()
}

/// Whether these bytes are options one after the other, none of which has no length (section 4.6).
fn are_whole(options: Option<&[u8]>) -> bool {
    let Some(mut options) = options else { return false };
    while let [_, rest @ ..] = options {
        let length = rest.first().map_or(0, |length| usize::from(*length) * 8);
        match options.get(length..) {
            Some(next) if length > 0 => options = next,
            Some(_) | None => return false,
        }
    }
    true
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
    let genuine =
        head[12..14] == [0x86, 0xdd] && head[20..22] == [ICMPV6, FROM_THIS_LINK] && head[54] == ADVERTISEMENT;
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
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, ICMPV6, FROM_THIS_LINK]);
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

    const ASKS: (Ipv6Addr, [u8; 6]) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 6), OWN);
    const ROUTER: (Ipv6Addr, [u8; 6]) = (Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 1), [2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_solicitation_names_who_asks() {
        let frame = solicitation(ROUTER.0, ASKS);
        assert_eq!(frame[..14], *b"\x33\x33\xff\0\0\x01\x02\0\0\0\0\x06\x86\xdd");
        assert_eq!(frame[22..38], ASKS.0.octets());
        assert_eq!(frame[38..54], "ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!((&frame[54..56], &frame[62..78]), (&[135, 0][..], &ROUTER.0.octets()[..]));
        assert_eq!(frame[78..], [1, 1, 2, 0, 0, 0, 0, 6]);
        assert!(is_sound(&frame));
    }

    /// The answer of a router to `ASKS`, with these options, after `change`, its checksum right.
    fn answer(options: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let addresses = (ROUTER.0, ASKS.0);
        let mut frame = message(ROUTER.1, addresses, [ADVERTISEMENT, SOLICITED], ROUTER.0, options);
        frame[..6].copy_from_slice(&OWN);
        change(&mut frame);
        frame[56..58].fill(0);
        let length = frame[19];
        let body = &frame[54..frame.len().min(54 + usize::from(length))];
        let sum = checksum(&[&frame[22..54], &[0, 0, 0, length, 0, 0, 0, ICMPV6], body]);
        frame[56..58].copy_from_slice(&sum);
        frame
    }

    #[test]
    fn an_answer_is_a_valid_advertisement_that_was_asked_for() {
        const MAC: &[u8] = &[2, 1, 2, 0, 0, 0, 0, 1];
        let same = |_: &mut Vec<u8>| {};
        let rows: [(&str, Vec<u8>, bool); 22] = [
            ("as routers give it", answer(MAC, |frame| frame[58] = 0xe0), true),
            ("without an option", answer(&[], same), true),
            ("with two options", answer(&[MAC, MAC].concat(), same), true),
            ("padded", answer(MAC, |frame| frame.extend([7; 40])), true),
            ("from another address of the router", answer(MAC, |frame| frame[37] = 9), true),
            ("a router in between", answer(MAC, |frame| frame[21] = 254), false),
            ("another code", answer(MAC, |frame| frame[55] = 1), false),
            ("another type", answer(MAC, |frame| frame[54] = 135), false),
            ("not asked for", answer(MAC, |frame| frame[58] = 0x20), false),
            ("of another host", answer(MAC, |frame| frame[77] = 2), false),
            ("to another host", answer(MAC, |frame| frame[53] = 7), false),
            ("to another MAC address", answer(MAC, |frame| frame[5] = 7), false),
            ("from this host", answer(MAC, |frame| frame[11] = 6), false),
            ("another protocol", answer(MAC, |frame| frame[20] = 17), false),
            ("another version", answer(MAC, |frame| frame[14] = 0x40), false),
            ("another EtherType", answer(MAC, |frame| frame[12] = 8), false),
            ("an option without a length", answer(&[2, 0, 0, 0, 0, 0, 0, 0], same), false),
            ("an option that ends beyond", answer(&[2, 2, 0, 0, 0, 0, 0, 0], same), false),
            ("half an option", answer(&[2], same), false),
            ("a packet shorter than its message", answer(MAC, |frame| frame[19] = 16), false),
            ("a packet longer than its frame", answer(MAC, |frame| frame[19] = 40), false),
            (
                "damaged",
                {
                    let mut frame = answer(MAC, same);
                    frame[84] ^= 1;
                    frame
                },
                false,
            ),
        ];
        for (what, frame, expected) in rows {
            assert_eq!(is_answer(&frame, ROUTER.0, ASKS), expected, "{what}");
            assert!(!is_answer(&frame[..77], ROUTER.0, ASKS), "{what}, cut off");
        }
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let frame = answer(MAC, |frame| frame[62..78].copy_from_slice(&group.octets()));
        assert!(!is_answer(&frame, group, ASKS), "of a group");
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_reader_of_answers_panic(
            bytes in prop::collection::vec((0usize..140, any::<u8>()), 0..6),
            length in 0usize..140,
            options in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut frame = answer(&options, |_| {});
            frame.truncate(length);
            for (place, byte) in bytes {
                if let Some(place) = frame.get_mut(place) {
                    *place = byte;
                }
            }
            let _ = is_answer(&frame, ROUTER.0, ASKS);
        }

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
