//! When a certificate ends, read from its DER (RFC 5280 4.1). Not whether it is good: rustls decides that.

/// The second since 1970 after which the certificate is no longer valid; `None` where it cannot be read.
pub(crate) fn not_after(certificate: &[u8]) -> Option<u64> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields, VERSION)?.1;
    }
    // Serial number, signature algorithm and issuer stand before the validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, end) = element(validity, *validity.first()?)?;
    match *end.first()? {
        UTC_TIME => seconds(element(end, UTC_TIME)?.0, 2),
        GENERALIZED_TIME => seconds(element(end, GENERALIZED_TIME)?.0, 4),
        _ => None,
    }
}

/// The contents of the element with this tag at the start of `der`, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first().filter(|_| found == tag)?;
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let (bytes, rest) =
        rest.split_at_checked((length & 0x7f).into()).filter(|(bytes, _)| bytes.len() <= 4)?;
    let length = bytes.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn seconds(text: &[u8], year_digits: usize) -> Option<u64> {
    let text = text.strip_suffix(b"Z")?;
    let (year, rest) = text.split_at_checked(year_digits).filter(|(_, rest)| rest.len() == 10)?;
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
    let written = number(year)?;
    // RFC 5280 4.1.2.5.1: two digits below 50 are of this century.
    let year = match year_digits {
        2 if written < 50 => 2000 + written,
        2 => 1900 + written,
        _ => written,
    };
    let parts: Option<Vec<u64>> = rest.chunks(2).map(number).collect();
    let &[month, day, hour, minute, second] = parts?.as_slice() else {
        return None;
    };
    let valid =
        year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    valid.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years that begin in March have their leap day last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let before_month = (153 * month + 2) / 5;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    365 * year + leap_days + before_month + day - 1 - 719_468
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_notations() {
        for (year, month, day, expected) in
            [(2026, 2, 28, 1_772_236_800), (2028, 2, 29, 1_835_395_200), (2050, 1, 1, 2_524_608_000)]
        {
            assert_eq!(not_after(&certificate(year, month, day)), Some(expected), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let good = certificate(2030, 1, 1);
        for bad in [&[][..], &good[..40], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0xff]] {
            assert_eq!(not_after(bad), None);
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in 0..200_usize, byte: u8) {
            let mut der = certificate(2030, 1, 1);
            der[at] = byte;
            let _ = not_after(&der);
        }
    }

    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["mail.example.test".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }
}
