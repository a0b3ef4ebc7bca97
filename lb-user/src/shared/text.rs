//! Bytes as text, both ways: hexadecimal for names, base64 for keys and signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The 32 bytes that 64 hexadecimal digits spell; capital letters are none.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}

/// Base64 without padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// The `N` bytes that `text` spells so.
pub(super) fn unbase64<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Longer than any key or signature: not worth decoding.
    (text.len() <= 128).then(|| STANDARD_NO_PAD.decode(text).ok())??.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_both_spellings_and_nothing_else_is_taken_for_one() {
        let bytes: [u8; 32] = std::array::from_fn(|index| u8::try_from(index * 8).unwrap());
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unbase64(&base64(&bytes)), Some(bytes));
        let spelt = hex(&bytes);
        for wrong in ["", "00", &spelt[1..], &spelt.to_uppercase(), &format!("{spelt}00"), &"é".repeat(32)] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
        for wrong in ["", "AA", "====", &"A".repeat(200)] {
            assert_eq!(unbase64::<32>(wrong), None, "{wrong}");
        }
    }
}
