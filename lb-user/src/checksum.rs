//! The internet checksum (RFC 1071). lb-common has its own for the data path, of fixed lengths.

/// The checksum of these bytes, one piece after another, as it stands in a packet. All pieces but the last are of even length.
pub(crate) fn checksum(pieces: &[&[u8]]) -> [u8; 2] {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let word = |word: &[u8]| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        // Section 3: the sum of these is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&bytes]), (!0xddf2_u16).to_be_bytes());
        assert_eq!(checksum(&[&bytes[..4], &bytes[4..7], &[]]), checksum(&[&bytes[..7]]));
        assert_eq!(checksum(&[&bytes[..7]]), checksum(&[&bytes[..7], &[0]][..1]));
    }
}
