//! The text of a file that Windows wrote: UTF-8 or UTF-16, with or without a byte order mark. Pure. What the text says is for `xml` and
//! `nlb`.

use thiserror::Error;

/// Longest file that is read, bytes. A large applicationHost.config has one or two MiB.
pub const LONGEST: usize = 16 << 20;

/// Why a file is no text. It is the file's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// More than `LONGEST`.
    #[error("the file is longer than {LONGEST} bytes; hint: an applicationHost.config has some hundred KB")]
    TooLong,
    /// UTF-16 with half a character at the end.
    #[error("the file ends within a character of UTF-16; hint: it was cut off, copy it again")]
    HalfCharacter,
    /// Neither.
    #[error("line {line} is neither UTF-8 nor UTF-16; hint: copy the file as it is, or save it as UTF-8")]
    NotText {
        /// Counted from 1.
        line: usize,
    },
}

/// The text of a file, without byte order mark.
pub fn decode(bytes: &[u8]) -> Result<String, TextError> {
    if bytes.len() > LONGEST {
        return Err(TextError::TooLong);
    }
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // Markup and words begin with ASCII, of which UTF-16 makes a zero and a letter.
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes),
        _ => utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, TextError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        TextError::NotText { line: 1 + before.iter().filter(|&&byte| byte == b'\n').count() }
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, TextError> {
    let (pairs, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(TextError::HalfCharacter);
    }
    let mut text = String::with_capacity(pairs.len());
    for letter in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let line = || 1 + text.matches('\n').count();
        let letter = letter.map_err(|_| TextError::NotText { line: line() })?;
        text.push(letter);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_writes_is_read() {
        let text = "<a>\r\n\u{e4}\u{1f4e7}</a>";
        let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let (little, big) = (utf16(u16::to_le_bytes), utf16(u16::to_be_bytes));
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            little.clone(),
            [b"\xff\xfe", &little[..]].concat(),
            big.clone(),
            [b"\xfe\xff", &big[..]].concat(),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text), "{bytes:x?}");
        }
        assert_eq!(decode(b""), Ok(String::new()));
    }

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        for (bytes, wanted) in [
            (&b"<a>\n\xff</a>"[..], TextError::NotText { line: 2 }),
            (b"\xff\xfe<\0a", TextError::HalfCharacter),
            (b"\xff\xfe\n\0\x00\xd8", TextError::NotText { line: 2 }),
        ] {
            assert_eq!(decode(bytes), Err(wanted), "{bytes:x?}");
        }
        assert_eq!(decode(&vec![b' '; LONGEST + 1]), Err(TextError::TooLong));
    }
}
