//! What clients send, what they never send, and anything at all.

use proptest::prelude::*;

use super::*;

fn encoded(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

fn claim(scheme: &str, token: &[u8]) -> Option<(Scheme, Who)> {
    let value = format!("{scheme} {}", encoded(token));
    Claim::of_authorization(value.as_bytes()).map(|claim| (claim.scheme, claim.who))
}

fn user(text: &str) -> Who {
    Who::User(User::of_bytes(text.as_bytes()).unwrap())
}

/// An AUTHENTICATE_MESSAGE as Windows writes it.
fn authenticate(flags: u32, domain: &[u8], name: &[u8]) -> Vec<u8> {
    let mut header = b"NTLMSSP\0".to_vec();
    let mut payload = Vec::new();
    header.extend(3_u32.to_le_bytes());
    let fields: [&[u8]; 6] = [&[0; 24], &[7; 80], domain, name, b"P\0C\0", &[]];
    for text in fields {
        let length = (text.len() as u16).to_le_bytes();
        header.extend(length);
        header.extend(length);
        header.extend((88 + payload.len() as u32).to_le_bytes());
        payload.extend(text);
    }
    header.extend(flags.to_le_bytes());
    header.extend([10, 0, 0x61, 0x4a, 0, 0, 0, 15]);
    header.extend([9; 16]);
    [header, payload].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn windows(domain: &str, name: &str) -> Vec<u8> {
    authenticate(1, &utf16(domain), &utf16(name))
}

/// An element of DER, its length in as many bytes as `long` says, or as few as it takes.
fn element(tag: u8, content: &[u8], long: Option<u8>) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let digits = match (long, content.len()) {
        (Some(digits), _) => digits,
        (None, 0..=0x7f) => return [&[tag, length[3]], content].concat(),
        (None, 0x80..=0xff) => 1,
        (None, 0x100..=0xffff) => 2,
        (None, _) => 3,
    };
    [&[tag, 0x80 | digits], &length[4 - usize::from(digits)..], content].concat()
}

fn response(token: &[u8], long: Option<u8>) -> Vec<u8> {
    let state = element(0xa0, &element(0x0a, &[1], None), None);
    let token = element(0xa2, &element(4, token, long), long);
    element(0xa1, &element(0x30, &[state, token].concat(), long), long)
}

fn init(token: &[u8]) -> Vec<u8> {
    let ntlm = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x0a];
    let mechanisms = element(0xa0, &element(0x30, &element(6, &ntlm, None), None), None);
    let token = element(0xa2, &element(4, token, None), None);
    let init = element(0xa0, &element(0x30, &[mechanisms, token].concat(), None), None);
    gss(&[0x2b, 6, 1, 5, 5, 2], &init)
}

fn gss(oid: &[u8], inner: &[u8]) -> Vec<u8> {
    element(0x60, &[element(6, oid, None), inner.to_vec()].concat(), None)
}

const KERBEROS: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];

#[test]
fn basic_names_its_user_before_the_first_colon() {
    for (pair, who) in [
        (&b"EXAMPLE\\Ann:secret"[..], user("example\\ann")),
        (b"ann@example.test:a:b", user("ann@example.test")),
        (b"j\xfcrgen:x", user("jürgen")),
        ("jürgen:x".as_bytes(), user("jürgen")),
        (b"ann%40example.test:x", user("ann%40example.test")),
        (b":x", Who::Unreadable),
        (b"no colon", Who::Unreadable),
        (b"", Who::Unreadable),
    ] {
        assert_eq!(claim("Basic", pair), Some((Scheme::Basic, who)), "{}", pair.escape_ascii());
    }
}

#[test]
fn an_authorization_is_read_as_servers_read_it() {
    let ann = Some((Scheme::Basic, user("ann")));
    for (value, wanted) in [
        (&b"Basic YW5uOng="[..], ann.clone()),
        (b"basic   YW5uOng", ann.clone()),
        (b"BASIC\tYW5uOng= ", ann.clone()),
        (b"Basic YW5uOnh=", ann),
        (b"Basic", Some((Scheme::Basic, Who::Unreadable))),
        (b"Basic !", Some((Scheme::Basic, Who::Unreadable))),
        (b"NTLM !", Some((Scheme::Ntlm, Who::Unreadable))),
        (b"Negotiate", Some((Scheme::Negotiate, Who::Unreadable))),
        (b"Bearer YW5uOng=", None),
        (b"BasicYW5uOng=", None),
        (b"", None),
    ] {
        let read = Claim::of_authorization(value).map(|claim| (claim.scheme, claim.who));
        assert_eq!(read, wanted, "{}", value.escape_ascii());
    }
}

#[test]
fn the_log_has_users_as_they_are_spelled_and_never_a_password() {
    for (scheme, token, wanted) in [
        ("Basic", b"EXAMPLE\\Ann:secret:x".to_vec(), Some("EXAMPLE\\Ann")),
        ("basic", b"no colon".to_vec(), None),
        ("NTLM", windows("EXAMPLE", "Ann"), Some("EXAMPLE\\Ann")),
        ("NTLM", windows("", "ann@example.test"), Some("ann@example.test")),
        ("NTLM", windows("EXAMPLE", ""), Some("")),
        ("NTLM", b"NTLMSSP\0\x01\0\0\0".to_vec(), None),
        ("Negotiate", response(&windows("EXAMPLE", "J\u{dc}rgen"), None), Some("EXAMPLE\\J\u{dc}rgen")),
        ("Negotiate", gss(&KERBEROS, &[1, 0]), None),
        ("Bearer", windows("EXAMPLE", "Ann"), None),
    ] {
        let value = format!("{scheme} {}", encoded(&token));
        let spelled = spelled(value.as_bytes()).map(|user| String::from_utf8(user).unwrap());
        assert_eq!(spelled.as_deref(), wanted, "{value}");
    }
}

#[test]
fn only_basic_can_show_that_a_password_is_tried_again() {
    let claim = Claim::of_authorization(b"Basic YW5uOng=").unwrap();
    assert_eq!(claim.secret, Some(&b"YW5uOng="[..]));
    let value = format!("NTLM {}", encoded(&windows("EXAMPLE", "Ann")));
    assert_eq!(Claim::of_authorization(value.as_bytes()).unwrap().secret, None);
}

#[test]
fn an_ntlm_handshake_names_its_user_with_its_last_message() {
    let negotiate = b"NTLMSSP\0\x01\0\0\0\x07\x82\x08\xa2".as_slice();
    assert_eq!(claim("NTLM", negotiate), None);
    for (message, who) in [
        (windows("EXAMPLE", "Ann"), user("example\\ann")),
        (windows("", "ann@example.test"), user("ann@example.test")),
        (windows("", "EXAMPLE\\ann"), user("example\\ann")),
        (windows("EXÄMPLE", "Jürgen"), user("exämple\\jürgen")),
        (authenticate(2, b"EXAMPLE", b"ann"), user("example\\ann")),
        (authenticate(3, &utf16("EXAMPLE"), &utf16("ann")), user("example\\ann")),
        (windows("EXAMPLE", ""), Who::Unnamed),
        (authenticate(2, &utf16("EXAMPLE"), &utf16("ann")), Who::Unreadable),
        (authenticate(2, b"", b"j\xfcrgen"), Who::Unreadable),
        (authenticate(1, b"", b"odd"), Who::Unreadable),
        (authenticate(1, b"", &0xd800_u16.to_le_bytes()), Who::Unreadable),
        (windows("", &"u".repeat(513)), Who::Unreadable),
        (windows("", &"\u{1f600}".repeat(257)), Who::Unreadable),
        (b"NTLMSSP\0\x02\0\0\0".to_vec(), Who::Unreadable),
        (b"NTLMSSP\0".to_vec(), Who::Unreadable),
        (b"NTLMSSX\0\x03\0\0\0".to_vec(), Who::Unreadable),
    ] {
        assert_eq!(claim("NTLM", &message), Some((Scheme::Ntlm, who)), "{}", message.escape_ascii());
    }
}

#[test]
fn a_field_that_leaves_the_message_is_not_read() {
    let sound = windows("EXAMPLE", "Ann");
    for (at, bytes) in [
        (36, &[0xff, 0xff][..]),
        (36, &[0xff, 0x03]),
        (40, &[0xff, 0xff, 0xff, 0xff]),
        (40, &[0xfe, 0xff, 0xff, 0x7f]),
        (28, &[0xff, 0xff]),
        (32, &[0xff, 0xff, 0, 0]),
    ] {
        let mut message = sound.clone();
        message[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(ntlm::message(&message), Ntlm::Malformed, "{at}");
    }
    for length in 0..64 {
        assert_eq!(ntlm::message(&sound[..length]), Ntlm::Malformed, "{length} bytes");
    }
}

#[test]
fn ntlm_is_found_in_every_wrapping_that_a_server_opens() {
    let message = windows("EXAMPLE", "Ann");
    let microsoft = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 0x0a];
    for token in [
        message.clone(),
        response(&message, None),
        response(&message, Some(2)),
        response(&message, Some(4)),
        init(&message),
        gss(&microsoft, &message),
        [response(&message, None), vec![0; 3]].concat(),
    ] {
        let wanted = Some((Scheme::Ntlm, user("example\\ann")));
        assert_eq!(claim("Negotiate", &token), wanted, "{}", token.escape_ascii());
    }
    assert_eq!(claim("Negotiate", &init(b"NTLMSSP\0\x01\0\0\0")), None, "the first message");
}

#[test]
fn what_clients_of_others_make_is_read() {
    for (client, token) in [("pyspnego 0.12", PYSPNEGO), ("impacket 0.13", IMPACKET)] {
        let value = format!("Negotiate {token}");
        let claim = Claim::of_authorization(value.as_bytes()).unwrap();
        assert_eq!((claim.scheme, claim.who), (Scheme::Ntlm, user("example\\jürgen")), "{client}");
    }
}

#[test]
fn who_is_not_named_is_told_from_who_cannot_be_read() {
    let ticket = gss(&KERBEROS, &[1, 0, 0x6e, 0]);
    let message = windows("EXAMPLE", "Ann");
    let twice = {
        let token = element(0xa2, &element(4, &message, None), None);
        element(0xa1, &element(0x30, &[token.clone(), token].concat(), None), None)
    };
    for (token, who) in [
        (ticket.clone(), Who::Unnamed),
        (init(&ticket), Who::Unnamed),
        (init(b"NEGOEXTS"), Who::Unnamed),
        (response(&[], None), Who::Unnamed),
        (element(0xa1, &element(0x30, &[], None), None), Who::Unnamed),
        (twice, Who::Unreadable),
        (init(&init(&message)), Who::Unreadable),
        (vec![0x60, 0x80, 6, 0], Who::Unreadable),
        (vec![0x60, 0x85, 0, 0, 0, 0, 1], Who::Unreadable),
        (vec![0x60, 0x84, 0xff, 0xff, 0xff, 0xff], Who::Unreadable),
        (vec![0x04, 0], Who::Unreadable),
        (b"hello".to_vec(), Who::Unreadable),
        (vec![], Who::Unreadable),
    ] {
        assert_eq!(claim("Negotiate", &token), Some((Scheme::Negotiate, who)), "{}", token.escape_ascii());
    }
}

#[test]
fn a_form_is_a_claim_whether_it_can_be_read_or_not() {
    let of = |form| Claim::of_owa_form(form).who;
    assert_eq!(of(Some(b"flags=4&username=EXAMPLE%5cann&password=x")), user("example\\ann"));
    assert_eq!(of(Some(b"flags=4")), Who::Unreadable);
    assert_eq!(of(None), Who::Unnamed);
}

proptest! {
    #[test]
    fn any_authorization_is_survived(
        scheme in prop::sample::select(vec!["Basic", "NTLM", "Negotiate", "Bearer", ""]),
        token: Vec<u8>,
        raw: Vec<u8>,
    ) {
        claim(scheme, &token);
        Claim::of_authorization(&[scheme.as_bytes(), b" ", &raw].concat());
    }

    #[test]
    fn a_damaged_message_is_survived(at in 0..200_usize, bytes: [u8; 4], wrapped: bool) {
        let sound = windows("EXAMPLE", "Ann");
        let mut token = if wrapped { response(&sound, None) } else { sound };
        for (place, byte) in token.iter_mut().skip(at).zip(bytes) {
            *place = byte;
        }
        claim("Negotiate", &token);
        claim("NTLM", &token);
    }

    #[test]
    fn the_user_of_a_sound_message_is_found_however_it_is_wrapped(
        domain in "[A-Za-z0-9.-]{1,20}",
        name in "[A-Za-z0-9äöüß. -]{1,20}",
        long in prop::option::of(2..=4_u8),
    ) {
        let wanted = user(&format!("{domain}\\{name}"));
        let message = windows(&domain, &name);
        for token in [response(&message, long), init(&message), message] {
            prop_assert_eq!(claim("Negotiate", &token), Some((Scheme::Ntlm, wanted.clone())));
        }
    }
}

/// The last message of `EXAMPLE\Jürgen` with the password `secret`.
const PYSPNEGO: &str = "oYIBSzCCAUegAwoBAaKCASoEggEmTlRMTVNTUAADAAAAGAAYAFgAAACIAIgAcAAAAA4ADgD4AAAADAAMAAYBAAAEAAQA\
     EgEAABAAEAAWAQAANYKK4gAMBAAAAAAPBubVWLAo75CJQI0CjV+WoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAF9eYT99\
     Kv8vzzOBR4DkQSEBAQAAAAAAAHDnzAZafd0BpyETMTPy81kAAAAAAQAEAFYATQACABYAVwBPAFIASwBTAFQAQQBUAEkA\
     TwBOAAMABAB2AG0ABwAIAHDnzAZafd0BCQASAGgAdAB0AHAALwBtAGEAaQBsAAYABAACAAAAAAAAAAAAAABFAFgAQQBN\
     AFAATABFAEoA/AByAGcAZQBuAFYATQA5MtMWhlAoPUQ41ykA8rCaoxIEEAEAAAAzrh9aueSX7AAAAAA=";

/// The same of another client.
const IMPACKET: &str = "oYHzMIHwooHtBIHqTlRMTVNTUAADAAAAGAAYAFoAAAB4AHgAcgAAAA4ADgBAAAAADAAMAE4AAAAAAAAAWgAAAAAAAADq\
     AAAABQKIoEUAWABBAE0AUABMAEUASgD8AHIAZwBlAG4AYrUCT3RfKsvDVw+hSGRdkXExd3lSRUlXjUF/lol9zhi/ZfcZ\
     NpoQOgEBAAAAAAAAQDr8Dlp93QFxMXd5UkVJVwAAAAABAAQAVgBNAAIAFgBXAE8AUgBLAFMAVABBAFQASQBPAE4AAwAE\
     AHYAbQAHAAgAQDr8Dlp93QEJAA4AYwBpAGYAcwAvAHYAbQAAAAAA";
