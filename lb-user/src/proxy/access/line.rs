//! The pieces of a line: numbers, times, and text from clients of which no byte can end the line or the field. They are appended to
//! a buffer that is used again, so that a line costs no allocation.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use crate::wall::WallTime;

pub(super) fn number(number: u64, line: &mut Vec<u8>) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration, line: &mut Vec<u8>) {
    number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), line);
}

/// Milliseconds with three decimals.
pub(super) fn micros(time: Duration, line: &mut Vec<u8>) {
    millis(time, line);
    line.push(b'.');
    three(time.subsec_micros() % 1000, line);
}

/// An address; an IPv4 address in IPv6's clothes as what it is.
pub(super) fn address(address: IpAddr, line: &mut Vec<u8>) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            for (at, part) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    line.push(b'.');
                }
                number(part.into(), line);
            }
        }
        // Writing to memory does not fail.
        IpAddr::V6(address) => drop(write!(line, "{address}")),
    }
}

/// `2026-11-24` and `12:31:07`.
pub(super) fn date_and_time(time: WallTime, between: u8, line: &mut Vec<u8>) {
    let [year, month, day, hour, minute, second] = time.utc();
    number(year.into(), line);
    for (before, part) in [(b'-', month), (b'-', day), (between, hour), (b':', minute), (b':', second)] {
        line.push(before);
        line.extend([part / 10, part % 10].map(digit));
    }
}

/// Thousandths of a second.
pub(super) fn thousandths(time: WallTime, line: &mut Vec<u8>) {
    three(u32::try_from(time.unix_ms() % 1000).unwrap_or_default(), line);
}

fn three(thousandths: u32, line: &mut Vec<u8>) {
    line.extend([thousandths / 100, thousandths / 10 % 10, thousandths % 10].map(digit));
}

fn digit(digit: u32) -> u8 {
    b'0' + u8::try_from(digit).unwrap_or_default()
}

/// A part of a JSON string, in ASCII: what has a meaning there, every control character, and all beyond ASCII are written as
/// `\u` and digits, so that neither a reader of lines nor a terminal sees anything but text. What is not UTF-8 becomes U+FFFD.
pub(super) fn json(text: &[u8], line: &mut Vec<u8>) {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let start = text.iter().position(|byte| !plain(byte)).unwrap_or(text.len());
    line.extend_from_slice(&text[..start]);
    for chunk in text[start..].utf8_chunks() {
        for character in chunk.valid().chars() {
            match u8::try_from(character) {
                Ok(byte) if plain(&byte) => line.push(byte),
                Ok(byte @ (b'"' | b'\\')) => line.extend([b'\\', byte]),
                Ok(_) | Err(_) => escaped(character, line),
            }
        }
        if !chunk.invalid().is_empty() {
            escaped(char::REPLACEMENT_CHARACTER, line);
        }
    }
}

fn escaped(character: char, line: &mut Vec<u8>) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        drop(write!(line, "\\u{unit:04x}"));
    }
}

/// A field of W3C extended: `-` if there is nothing to say, `+` for a space as IIS writes it, and `%` with two digits for
/// every byte that could end a field or the line, or is beyond ASCII.
pub(super) fn field(text: &[u8], line: &mut Vec<u8>) {
    if text.is_empty() {
        line.push(b'-');
    }
    for byte in text {
        match byte {
            b' ' => line.push(b'+'),
            b'"' | 0..=0x1f | 0x7f.. => drop(write!(line, "%{byte:02X}")),
            plain => line.push(*plain),
        }
    }
}

/// As much of `text` as is logged.
pub(super) fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(LONGEST)]
}

/// Longest text of a field, in bytes before escaping.
pub(super) const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn numbers_times_and_addresses_are_written_as_elsewhere() {
        let time = WallTime::from_unix_ms(1_795_523_467_042);
        assert_eq!(written(|line| date_and_time(time, b' ', line)), "2026-11-24 12:31:07");
        assert_eq!(written(|line| thousandths(time, line)), "042");
        assert_eq!(written(|line| micros(Duration::from_micros(12_007), line)), "12.007");
        assert_eq!(written(|line| millis(Duration::from_micros(12_907), line)), "12");
        for (text, shown) in [
            ("203.0.113.5", "203.0.113.5"),
            ("::ffff:203.0.113.5", "203.0.113.5"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(written(|line| address(text.parse().unwrap(), line)), shown);
        }
    }

    #[test]
    fn hostile_text_stays_in_its_field() {
        for (text, in_json, in_field) in [
            (&b""[..], "", "-"),
            (b"Mozilla/5.0 (X11)", "Mozilla/5.0 (X11)", "Mozilla/5.0+(X11)"),
            (b"a\"b\\c", "a\\\"b\\\\c", "a%22b\\c"),
            (b"a\r\n#Fields: x", "a\\u000d\\u000a#Fields: x", "a%0D%0A#Fields:+x"),
            (b"\x1b[2J\t\0\x7f", "\\u001b[2J\\u0009\\u0000\\u007f", "%1B[2J%09%00%7F"),
            ("J\u{fc}rgen \u{1f600}".as_bytes(), "J\\u00fcrgen \\ud83d\\ude00", "J%C3%BCrgen+%F0%9F%98%80"),
            (b"\xff\xfe.", "\\ufffd\\ufffd.", "%FF%FE."),
            ("\u{2028}\u{85}".as_bytes(), "\\u2028\\u0085", "%E2%80%A8%C2%85"),
        ] {
            assert_eq!(written(|line| json(text, line)), in_json);
            assert_eq!(written(|line| field(text, line)), in_field);
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_json(text in any::<String>()) {
            let line = written(|line| json(text.as_bytes(), line));
            prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(serde_json::from_str::<String>(&format!("\"{line}\"")).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_one_field(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let line = written(|line| field(&text, line));
            prop_assert!(!line.is_empty() && line.bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
        }
    }
}
