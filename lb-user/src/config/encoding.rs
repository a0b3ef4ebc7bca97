//! The bytes of a file to its text: UTF-8 or UTF-16, as editors on Linux and Windows write them. What the text means is for
//! `parse.rs`.

use super::problem::Problem;

/// The longest file that is read, bytes: a thousand times the reference cluster.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// The text of a file: UTF-8, or UTF-16 of either byte order, with or without a byte order mark, which is dropped. Any other
/// encoding is refused by name.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, Problem> {
    if bytes.len() > MAX_BYTES {
        let text = format!("the file is longer than {MAX_BYTES} bytes; that is no configuration");
        return Err(Problem::of_file(text));
    }
    match utf16_unit(bytes) {
        Some(unit) => utf16(bytes, unit),
        None => utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
    }
}

type Unit = fn([u8; 2]) -> u16;

/// How two bytes are a unit of UTF-16, if that is what they are. ASCII text in UTF-16 has a zero in every other byte, with or
/// without a byte order mark.
fn utf16_unit(bytes: &[u8]) -> Option<Unit> {
    match bytes {
        [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
        [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
        [first, 0, ..] if *first != 0 => Some(u16::from_le_bytes),
        [0, second, ..] if *second != 0 => Some(u16::from_be_bytes),
        _ => None,
    }
}

fn utf16(bytes: &[u8], unit: Unit) -> Result<String, Problem> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(pairs.len());
    for decoded in char::decode_utf16(pairs.iter().map(|&pair| unit(pair))) {
        text.push(decoded.map_err(|_| torn(&text))?);
    }
    if !rest.is_empty() {
        return Err(torn(&text));
    }
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// UTF-16 that is sound as far as `text`.
fn torn(text: &str) -> Problem {
    let line = 1 + text.matches('\n').count();
    let text = format!(
        "line {line} is not whole: the file is UTF-16, which Windows editors call \"Unicode\", and damaged"
    );
    Problem::of_file(text).hint("save it again, as UTF-8")
}

fn utf8(bytes: &[u8]) -> Result<String, Problem> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let (before, rest) = bytes.split_at(error.valid_up_to());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        let named = rest.first().and_then(|&byte| windows_1252(byte)).map(|letter| {
            format!(": the byte that is \"{letter}\" in Windows-1252, which Windows editors call \"ANSI\"")
        });
        let text = format!("line {line} is not UTF-8 text{}", named.unwrap_or_default());
        Problem::of_file(text).hint("save the file as UTF-8")
    })
}

/// The letter that Windows-1252 has at `byte`, of those beyond ASCII.
fn windows_1252(byte: u8) -> Option<char> {
    match byte {
        0x00..=0x7f => None,
        0x80..=0x9f => HIGH_CONTROLS[usize::from(byte - 0x80)],
        0xa0..=0xff => Some(char::from(byte)),
    }
}

/// 0x80 to 0x9f, where Windows-1252 differs from Latin 1 (WHATWG Encoding, index windows-1252); five are of no letter.
#[rustfmt::skip]
const HIGH_CONTROLS: [Option<char>; 32] = [
    Some('€'), None, Some('‚'), Some('ƒ'), Some('„'), Some('…'), Some('†'), Some('‡'),
    Some('ˆ'), Some('‰'), Some('Š'), Some('‹'), Some('Œ'), None, Some('Ž'), None,
    None, Some('‘'), Some('’'), Some('“'), Some('”'), Some('•'), Some('–'), Some('—'),
    Some('˜'), Some('™'), Some('š'), Some('›'), Some('œ'), None, Some('ž'), Some('Ÿ'),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `text` as a file of each encoding that is read.
    fn files(text: &str) -> Vec<Vec<u8>> {
        let utf16 = |bom: &[u8], bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            bom.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
        };
        vec![
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            utf16(b"\xff\xfe", u16::to_le_bytes),
            utf16(b"\xfe\xff", u16::to_be_bytes),
            utf16(b"", u16::to_le_bytes),
            utf16(b"", u16::to_be_bytes),
        ]
    }

    #[test]
    fn what_is_no_text_is_told_with_its_line_and_its_likely_encoding() {
        let refused = |bytes: &[u8]| format!("{:?}", decode(bytes).unwrap_err());
        let ansi = refused(b"[cluster]\nip = \"1\" # f\xfcr\n");
        assert!(
            ansi.contains("line 2 is not UTF-8 text: the byte that is \\\"ü\\\" in Windows-1252"),
            "{ansi}"
        );
        let euro = refused(b"# \x80 5\n");
        assert!(euro.contains("line 1") && euro.contains('€'), "{euro}");
        let none = refused(b"a = 1\n\n\x81");
        assert!(none.contains("line 3 is not UTF-8 text\""), "{none}");
        for torn in [&b"\xff\xfea\0\n\0\0\xd8"[..], b"\xff\xfea\0\n\0b"] {
            let told = refused(torn);
            assert!(told.contains("line 2 is not whole: the file is UTF-16"), "{told}");
        }
        assert!(refused(&vec![b' '; MAX_BYTES + 1]).contains("longer than"));
    }

    proptest! {
        #[test]
        fn every_encoding_that_is_read_gives_the_same_text(text in "[ -~]([ -~\\r\\n]|\\PC){0,40}") {
            for bytes in files(&text) {
                prop_assert_eq!(decode(&bytes).unwrap(), text.clone());
            }
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }
}
