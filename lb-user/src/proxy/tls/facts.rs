//! What a certificate says of itself, for status and error texts. Not whether any of it is true: rustls decides that.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

/// What a certificate says of itself. Texts are shortened and without control characters, whoever wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Whose it is, as `O=Example, CN=mail.example.test`; empty where the certificate cannot be read.
    pub subject: String,
    /// The host names and addresses it is for (RFC 5280 4.2.1.6), at most `MOST_NAMES`.
    pub names: Vec<String>,
    /// Who signed it, as `subject`.
    pub issuer: String,
    /// The second since 1970 after which it is no longer valid; `None` where it cannot be read.
    pub not_after: Option<u64>,
    /// SHA-256 of its DER.
    pub sha256: Fingerprint,
}

impl Facts {
    /// Reads `certificate`, a DER certificate. One that cannot be read has its fingerprint only.
    pub fn of(certificate: &[u8]) -> Self {
        let sha256 = Fingerprint::of(certificate);
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
            return Self {
                subject: String::new(),
                names: Vec::new(),
                issuer: String::new(),
                not_after: None,
                sha256,
            };
        };
        let not_after = parsed.validity().not_after.timestamp();
        Self {
            subject: name(parsed.subject()),
            names: names(&parsed),
            issuer: name(parsed.issuer()),
            not_after: u64::try_from(not_after).ok(),
            sha256,
        }
    }
}

/// The second since 1970 from which `certificate` (DER) is valid; `None` where that cannot be read, and before 1970.
pub fn not_before(certificate: &[u8]) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(parsed.validity().not_before.timestamp()).ok()
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() && self.issuer.is_empty() {
            return write!(f, "an unreadable certificate, {}", self.sha256);
        }
        write!(f, "subject `{}`", self.subject)?;
        if !self.names.is_empty() {
            write!(f, ", names {}", self.names.join(" "))?;
        }
        write!(f, ", issuer `{}`", self.issuer)?;
        let end = self.not_after.and_then(|end| ASN1Time::from_timestamp(i64::try_from(end).ok()?).ok());
        if let Some(end) = end {
            write!(f, ", valid until {end}")?;
        }
        write!(f, ", {}", self.sha256)
    }
}

/// A SHA-256 digest, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(sha256)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = MalformedFingerprint;

    /// `sha256:` and 64 hexadecimal digits of either case; colons between bytes, as openssl prints them, do not count.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").ok_or(MalformedFingerprint)?;
        let mut digits = digits.chars().filter(|digit| *digit != ':');
        let mut sha256 = [0; 32];
        for byte in &mut sha256 {
            for _ in 0..2 {
                let digit = digits.next().and_then(|digit| digit.to_digit(16)).ok_or(MalformedFingerprint)?;
                *byte = *byte << 4 | u8::try_from(digit).expect("invariant: a hexadecimal digit is below 16");
            }
        }
        if digits.next().is_some() { Err(MalformedFingerprint) } else { Ok(Self(sha256)) }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = MalformedFingerprint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// A text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "not a SHA-256 fingerprint; hint: `sha256:` and 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints"
)]
pub struct MalformedFingerprint;

fn name(name: &X509Name<'_>) -> String {
    printable(&name.to_string())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            return Some(printable(name));
        }
        let GeneralName::IPAddress(bytes) = name else {
            return None;
        };
        address(bytes).map(|address| address.to_string())
    };
    extension.value.general_names.iter().filter_map(text).take(MOST_NAMES).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A line of a log or a terminal must not be written by who made the certificate.
fn printable(text: &str) -> String {
    let shown =
        |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    text.chars().take(LONGEST_TEXT).map(shown).collect()
}

/// Most names that are kept of a certificate.
const MOST_NAMES: usize = 100;

/// Longest text that is kept of a certificate, in characters.
const LONGEST_TEXT: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_certificate_tells_whose_it_is_and_until_when() {
        let pem = include_bytes!("../../../testdata/tls/site.crt");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).unwrap();
        let facts = Facts::of(&pem.contents);
        assert_eq!(facts.subject, "O=Example, CN=mail.example.test");
        assert_eq!(facts.issuer, "O=Example, CN=Test Issuing CA");
        assert_eq!(facts.names, ["mail.example.test", "*.example.test", "192.168.50.8"]);
        assert_eq!(facts.sha256, Fingerprint::of(&pem.contents));
        let shown = facts.to_string();
        assert!(shown.contains("valid until Nov  2") && shown.contains("2126"), "{shown}");
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_notations() {
        for (year, month, day, expected) in
            [(2026, 2, 28, 1_772_236_800), (2028, 2, 29, 1_835_395_200), (2050, 1, 1, 2_524_608_000)]
        {
            assert_eq!(
                Facts::of(&certificate(year, month, day)).not_after,
                Some(expected),
                "{year}-{month}-{day}"
            );
        }
    }

    #[test]
    fn what_is_no_certificate_has_its_fingerprint_only() {
        let good = certificate(2030, 1, 1);
        for bad in [&[][..], &good[..40], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0xff]] {
            let facts = Facts::of(bad);
            assert_eq!((facts.subject.as_str(), facts.not_after), ("", None));
            assert_eq!(facts.to_string(), format!("an unreadable certificate, {}", Fingerprint::of(bad)));
        }
    }

    #[test]
    fn a_certificate_cannot_write_lines_of_its_own() {
        let mut parameters = rcgen::CertificateParams::default();
        let forged = format!("mail\nERROR \u{1b}[31m{}", "x".repeat(1000));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, forged);
        let key = rcgen::KeyPair::generate().unwrap();
        let facts = Facts::of(parameters.self_signed(&key).unwrap().der());
        assert!(facts.subject.contains("ERROR") && !facts.subject.contains(char::is_control), "{facts}");
        assert_eq!(facts.subject.chars().count(), LONGEST_TEXT);
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_written_and_as_openssl_writes_it() {
        let fingerprint = Fingerprint::of(b"certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint));
        let pairs: Vec<String> = fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(format!("sha256:{}", pairs.join(":")).parse(), Ok(fingerprint));
        for bad in ["", "sha256:", &text[7..], &text[..70], &format!("{text}0"), &text.replace('a', "ä")] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(MalformedFingerprint), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in 0..200_usize, byte: u8) {
            let mut der = certificate(2030, 1, 1);
            der[at] = byte;
            let _ = Facts::of(&der).to_string();
        }
    }

    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["mail.example.test".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }
}
