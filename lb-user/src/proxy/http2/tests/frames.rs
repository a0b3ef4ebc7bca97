//! HTTP/2 frames and field lines as bytes (RFC 9113, RFC 7541), right or wrong. The framing tests have them, too.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a client's connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A field that is in no table and not coded (RFC 7541, 6.2.2).
pub(crate) fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name.as_ref(), value.as_ref()] {
        integer(text.len(), &mut field);
        field.extend_from_slice(text);
    }
    field
}

/// With a prefix of seven bits (RFC 7541, 5.1).
fn integer(number: usize, into: &mut Vec<u8>) {
    let Some(mut rest) = number.checked_sub(127) else {
        return into.push(u8::try_from(number).unwrap());
    };
    into.push(127);
    while rest >= 128 {
        into.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    into.push(u8::try_from(rest).unwrap());
}
