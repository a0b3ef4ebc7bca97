//! The server name of a TLS ClientHello, read from the first bytes of a connection as they come. Pure, and no TLS: nothing is
//! answered or verified; the handshake is between the client and the server that the name chooses.
//!
//! RFC 8446, 4.1.2 and 5.1 (ClientHello, records); RFC 6066, 3 (server_name). With encrypted ClientHello the name is the outer one.

use std::borrow::Cow;

use thiserror::Error;

/// What the bytes so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// The ClientHello goes on.
    Incomplete,
    /// It is whole: its server name in lower case, if it has one.
    Whole(Option<String>),
}

/// Reads the ClientHello at the start of `bytes`, whole or in part. More bytes never change an answer but `Incomplete`.
pub fn read(bytes: &[u8]) -> Result<Hello, NotHello> {
    let Some(message) = message(bytes)? else {
        return Ok(Hello::Incomplete);
    };
    let name = extensions(&message).ok_or(NotHello::Malformed)?;
    Ok(Hello::Whole(server_name(name)?))
}

/// Most bytes that a ClientHello is looked for in, record headers included. Browsers' are below 2 KiB, with post-quantum key
/// shares; a longer one can only be meant to fill memory.
pub const LONGEST_HELLO: usize = 16 << 10;

/// Why there is no name to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotHello {
    /// The bytes are no TLS handshake.
    #[error(
        "the connection does not begin with a TLS handshake; hint: `sni` needs clients that speak TLS at once"
    )]
    NotTls,
    /// They begin as one and contradict themselves.
    #[error("the TLS ClientHello contradicts itself")]
    Malformed,
    /// It is longer than `LONGEST_HELLO`.
    #[error("the TLS ClientHello is longer than {LONGEST_HELLO} bytes")]
    TooLong,
}

/// The body of the first handshake message, a ClientHello, put together from its records; `None`: they go on.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, NotHello> {
    let mut rest = bytes;
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    loop {
        let (fragment, whole) = fragment(&mut rest)?;
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        if let Some(body) = body(&message, bytes.len())? {
            return Ok(Some(match message {
                Cow::Borrowed(message) => Cow::Borrowed(&message[body]),
                Cow::Owned(message) => Cow::Owned(message[body].to_vec()),
            }));
        }
        if !whole {
            return if bytes.len() < LONGEST_HELLO { Ok(None) } else { Err(NotHello::TooLong) };
        }
    }
}

/// What is there of the next record's content, and whether that is all of the record. A record is never empty (RFC 8446, 5.1).
fn fragment<'a>(rest: &mut &'a [u8]) -> Result<(&'a [u8], bool), NotHello> {
    let begins = |at: usize, is: u8| rest.get(at).is_none_or(|byte| *byte == is);
    if !begins(0, HANDSHAKE_RECORD) || !begins(1, MAJOR_VERSION) {
        return Err(NotHello::NotTls);
    }
    let Some((&[_, _, _, high, low], content)) = rest.split_first_chunk() else {
        return Ok((&[], false));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(1..=LONGEST_RECORD).contains(&length) {
        return Err(NotHello::Malformed);
    }
    let (fragment, after) = content.split_at(length.min(content.len()));
    *rest = after;
    Ok((fragment, fragment.len() == length))
}

/// Where in the message, which may go on, its body is.
fn body(message: &[u8], came: usize) -> Result<Option<std::ops::Range<usize>>, NotHello> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NotHello::NotTls);
    }
    let Some((&[_, a, b, c], after)) = message.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > LONGEST_HELLO || (came >= LONGEST_HELLO && after.len() < length) {
        return Err(NotHello::TooLong);
    }
    Ok((after.len() >= length).then_some(4..4 + length))
}

/// The extensions of a ClientHello; those of one that ends before them, as TLS 1.2 allows, are none.
fn extensions(hello: &[u8]) -> Option<&[u8]> {
    let mut rest = hello;
    take(&mut rest, VERSION_AND_RANDOM)?;
    let _session_id = vector(&mut rest, 1)?;
    let _cipher_suites = vector(&mut rest, 2)?;
    let _compression_methods = vector(&mut rest, 1)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let extensions = vector(&mut rest, 2)?;
    rest.is_empty().then_some(extensions)
}

/// The name in the one extension for it. No extension comes twice (RFC 8446, 4.2): servers differ in which one they believe.
fn server_name(mut extensions: &[u8]) -> Result<Option<String>, NotHello> {
    let mut found = None;
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2).ok_or(NotHello::Malformed)?;
        let content = vector(&mut extensions, 2).ok_or(NotHello::Malformed)?;
        if kind == SERVER_NAME {
            let name = host_name(content).ok_or(NotHello::Malformed)?;
            if found.replace(name).is_some() {
                return Err(NotHello::Malformed);
            }
        }
    }
    Ok(found)
}

/// RFC 6066, 3: a list that holds one name of each type, of which only that of a host is defined.
fn host_name(mut content: &[u8]) -> Option<String> {
    let mut list = vector(&mut content, 2)?;
    let kind = take(&mut list, 1)?;
    let name = vector(&mut list, 2)?;
    let sound = kind == HOST_NAME && (1..=LONGEST_NAME).contains(&name.len());
    if !sound || !content.is_empty() || !list.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    String::from_utf8(name).ok()
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A length of so many bytes, and what it is the length of.
fn vector<'a>(bytes: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let length = take(bytes, length_bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(bytes, length)
}

const HANDSHAKE_RECORD: u8 = 22;

/// Of every version from SSL 3.0 to TLS 1.3.
const MAJOR_VERSION: u8 = 3;

/// A record's content before encryption (RFC 8446, 5.1).
const LONGEST_RECORD: usize = 1 << 14;

const CLIENT_HELLO: u8 = 1;

const VERSION_AND_RANDOM: usize = 34;

/// The extension's type.
const SERVER_NAME: &[u8] = &[0, 0];

/// The name's type.
const HOST_NAME: &[u8] = &[0];

/// Longest host name in text (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use rustls_pki_types::ServerName;

    use super::*;

    /// What rustls greets a server of this name with.
    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// A ClientHello with these extensions, in one record.
    fn with_extensions(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3; VERSION_AND_RANDOM];
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend_from_slice(extensions);
        record(&[&[CLIENT_HELLO, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat())
    }

    fn record(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE_RECORD, 3, 1][..], &length, content].concat()
    }

    /// The extension, with this list of names.
    fn names(list: &[u8]) -> Vec<u8> {
        let length = u16::try_from(list.len()).unwrap();
        [SERVER_NAME, &(length + 2).to_be_bytes(), &length.to_be_bytes(), list].concat()
    }

    fn name(name: &[u8]) -> Vec<u8> {
        [HOST_NAME, &u16::try_from(name.len()).unwrap().to_be_bytes(), name].concat()
    }

    fn whole(name: Option<&str>) -> Result<Hello, NotHello> {
        Ok(Hello::Whole(name.map(str::to_owned)))
    }

    #[test]
    fn the_name_is_that_of_a_real_client() {
        assert_eq!(read(&hello("imap.example.test")), whole(Some("imap.example.test")));
        assert_eq!(read(&hello("192.0.2.1")), whole(None));
    }

    #[test]
    fn a_hello_may_have_one_name_and_nothing_that_is_read_in_two_ways() {
        let other = [0, 23, 0, 0];
        let cases: &[(Vec<u8>, Result<Hello, NotHello>)] = &[
            (vec![], whole(None)),
            (names(&name(b"Imap.Example.TEST")), whole(Some("imap.example.test"))),
            ([&other[..], &names(&name(b"a")), &other].concat(), whole(Some("a"))),
            ([names(&name(b"a")), names(&name(b"b"))].concat(), Err(NotHello::Malformed)),
            (names(&[name(b"a"), name(b"b")].concat()), Err(NotHello::Malformed)),
            (names(&[]), Err(NotHello::Malformed)),
            (names(&name(b"")), Err(NotHello::Malformed)),
            (names(&name(b"a\0b")), Err(NotHello::Malformed)),
            (names(&name(&[b'a'; 256])), Err(NotHello::Malformed)),
            (names(&[1, 0, 1, b'a']), Err(NotHello::Malformed)),
            ([&names(&name(b"a"))[..], &[0]].concat(), Err(NotHello::Malformed)),
            (vec![0, 23, 0, 9, 1], Err(NotHello::Malformed)),
        ];
        for (extensions, expected) in cases {
            assert_eq!(&read(&with_extensions(extensions)), expected, "{extensions:?}");
        }
    }

    #[test]
    fn what_is_no_handshake_is_told_from_its_first_bytes() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"EHLO a", &[22, 2], &[21, 3, 1, 0, 2, 1, 0], &[22, 3, 1, 0, 1, 2]]
        {
            assert_eq!(read(bytes), Err(NotHello::NotTls), "{bytes:?}");
        }
        assert_eq!(read(&[22, 3, 1, 0, 0]), Err(NotHello::Malformed));
        assert_eq!(read(&[22, 3, 1, 0x40, 1]), Err(NotHello::Malformed));
        assert_eq!(read(&[22, 3, 1, 0, 9, 1, 1, 0, 0]), Err(NotHello::TooLong));
    }

    #[test]
    fn a_hello_that_never_ends_is_given_up() {
        let slow = [record(&[CLIENT_HELLO, 0, 0x3f, 0xff]), record(&[0]).repeat(LONGEST_HELLO)].concat();
        assert_eq!(read(&slow[..LONGEST_HELLO - 1]), Ok(Hello::Incomplete));
        assert_eq!(read(&slow[..LONGEST_HELLO]), Err(NotHello::TooLong));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_into_records_the_name_is_the_same_and_comes_with_the_last_byte(
            lengths in vec(1..400_usize, 1..300),
            more in vec(any::<u8>(), 0..20),
        ) {
            let one = hello("imap.example.test");
            let (mut content, mut cut) = (&one[5..], Vec::new());
            for length in lengths.into_iter().cycle() {
                let (fragment, rest) = content.split_at(length.min(content.len()));
                cut.extend(record(fragment));
                content = rest;
                if content.is_empty() {
                    break;
                }
            }
            for length in 0..cut.len() {
                prop_assert_eq!(read(&cut[..length]), Ok(Hello::Incomplete));
            }
            cut.extend(more);
            prop_assert_eq!(read(&cut), whole(Some("imap.example.test")));
        }

        #[test]
        fn a_damaged_hello_is_an_answer_and_more_bytes_do_not_change_it(
            at in 0..300_usize, byte: u8, end in 0..400_usize,
        ) {
            let mut bytes = hello("imap.example.test");
            let at = at % bytes.len();
            bytes[at] = byte;
            let part = read(&bytes[..end.min(bytes.len())]);
            if part != Ok(Hello::Incomplete) {
                prop_assert_eq!(read(&bytes), part);
            }
        }

        #[test]
        fn any_bytes_are_an_answer(bytes in vec(any::<u8>(), 0..600), extensions in vec(any::<u8>(), 0..200)) {
            let _any = read(&bytes);
            let _any = read(&record(&[&[CLIENT_HELLO, 0, 0, 90], &bytes[..]].concat()));
            if let Ok(Hello::Whole(Some(name))) = read(&with_extensions(&extensions)) {
                prop_assert!(!name.is_empty());
            }
        }
    }
}
