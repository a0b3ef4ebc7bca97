//! An OCSP response to staple (RFC 6066 8): is it one, and is it about the site's certificate? Its signature is the client's
//! affair, its time the shell's.

use thiserror::Error;
use x509_parser::asn1_rs::{
    Any, Class, Enumerated, FromDer as _, GeneralizedTime, OctetString, Oid, Sequence, Tag, oid,
};
use x509_parser::certificate::X509Certificate;

/// An OCSP response that says that the site's certificate is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staple {
    der: Vec<u8>,
    next_update: Option<u64>,
}

impl Staple {
    /// Checks `response` (DER, RFC 6960 4.2.1) for the certificate `leaf` (DER).
    pub fn read(response: &[u8], leaf: &[u8]) -> Result<Self, StapleError> {
        if response.len() > LONGEST {
            return Err(StapleError::TooLong);
        }
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| StapleError::Certificate)?;
        let basic = basic_response(response)?;
        let answer = answer_for(&basic, leaf.raw_serial()).ok_or(StapleError::Damaged)?;
        let (status, next_update) = answer.ok_or(StapleError::AnotherCertificate)?;
        match status {
            GOOD => Ok(Self { der: response.to_vec(), next_update }),
            _ => Err(StapleError::NotGood),
        }
    }

    /// The second since 1970 at which there is a newer one; clients refuse this one then. `None`: there always is, and clients accept
    /// this one at any time.
    pub fn next_update(&self) -> Option<u64> {
        self.next_update
    }

    /// The response's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

/// Why an OCSP response is not stapled. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StapleError {
    /// It is longer than any is.
    #[error("the OCSP response is longer than {LONGEST} bytes; hint: one response in DER is needed")]
    TooLong,
    /// It is something else.
    #[error(
        "this is no OCSP response; hint: `openssl ocsp -issuer CA -cert SITE -url URL -respout FILE` writes one in DER"
    )]
    Damaged,
    /// The responder refused to answer.
    #[error("the OCSP responder answered with an error; hint: ask it again")]
    Refused,
    /// It is about another certificate.
    #[error(
        "the OCSP response is not about the site's certificate; hint: ask for it with the certificate that is served"
    )]
    AnotherCertificate,
    /// The certificate is revoked or unknown.
    #[error(
        "the OCSP response says that the certificate is revoked or unknown; hint: replace the certificate"
    )]
    NotGood,
    /// The site's certificate cannot be read.
    #[error(
        "the site's certificate cannot be read; hint: `openssl x509 -noout -text -in FILE` tells what is in it"
    )]
    Certificate,
}

/// The DER of the `BasicOCSPResponse`.
/// `OCSPResponse ::= SEQUENCE { responseStatus ENUMERATED, responseBytes [0] SEQUENCE { OID, OCTET STRING } OPTIONAL }`.
fn basic_response(response: &[u8]) -> Result<Vec<u8>, StapleError> {
    let read = || {
        let (after, outer) = Sequence::from_der(response).ok()?;
        let (rest, status) = Enumerated::from_der(&outer.content).ok()?;
        if !after.is_empty() || status.0 != SUCCESSFUL {
            return after.is_empty().then_some(None);
        }
        let (_, explicit) = Any::from_der(rest).ok().filter(|(_, any)| is_context(any, 0))?;
        let (_, bytes) = Sequence::from_der(explicit.data).ok()?;
        let (rest, kind) = Oid::from_der(&bytes.content).ok()?;
        let (_, contents) = OctetString::from_der(rest).ok().filter(|_| kind == OCSP_BASIC)?;
        Some(Some(contents.as_ref().to_vec()))
    };
    read().ok_or(StapleError::Damaged)?.ok_or(StapleError::Refused)
}

/// The status and `nextUpdate` of the certificate with `serial`; `Some(None)`: it is not there; `None`: damaged.
fn answer_for(basic: &[u8], serial: &[u8]) -> Option<Option<(u32, Option<u64>)>> {
    let (_, basic) = Sequence::from_der(basic).ok()?;
    let (_, data) = Sequence::from_der(&basic.content).ok()?;
    let mut rest: &[u8] = &data.content;
    // version [0] EXPLICIT OPTIONAL, responderID CHOICE { [1], [2] }, producedAt, responses.
    let (after, first) = Any::from_der(rest).ok()?;
    if is_context(&first, 0) {
        rest = after;
    }
    let (after, _responder) = Any::from_der(rest).ok()?;
    let (after, _produced) = GeneralizedTime::from_der(after).ok()?;
    let (_, responses) = Sequence::from_der(after).ok()?;
    let mut left: &[u8] = &responses.content;
    while !left.is_empty() {
        let (after, single) = Sequence::from_der(left).ok()?;
        let (about, status, next_update) = single_response(&single.content)?;
        if about == serial {
            return Some(Some((status, next_update)));
        }
        left = after;
    }
    Some(None)
}

/// Serial number, status and `nextUpdate`.
/// `SingleResponse ::= SEQUENCE { certID, certStatus, thisUpdate, nextUpdate [0] EXPLICIT OPTIONAL, ... }`.
fn single_response(single: &[u8]) -> Option<(Vec<u8>, u32, Option<u64>)> {
    let (rest, id) = Sequence::from_der(single).ok()?;
    // certID ::= SEQUENCE { hashAlgorithm, issuerNameHash, issuerKeyHash, serialNumber }.
    let (fields, _algorithm) = Sequence::from_der(&id.content).ok()?;
    let (fields, _name) = OctetString::from_der(fields).ok()?;
    let (fields, _key) = OctetString::from_der(fields).ok()?;
    let (_, serial) = Any::from_der(fields).ok().filter(|(_, any)| any.tag() == Tag::Integer)?;
    let (rest, status) = Any::from_der(rest).ok().filter(|(_, any)| any.class() == Class::ContextSpecific)?;
    let (rest, _this_update) = GeneralizedTime::from_der(rest).ok()?;
    let next_update = match Any::from_der(rest) {
        Ok((_, explicit)) if is_context(&explicit, 0) => {
            let (_, time) = GeneralizedTime::from_der(explicit.data).ok()?;
            Some(u64::try_from(time.utc_datetime().ok()?.unix_timestamp()).ok()?)
        }
        Ok(_) | Err(_) => None,
    };
    Some((serial.data.to_vec(), status.tag().0, next_update))
}

fn is_context(any: &Any<'_>, tag: u32) -> bool {
    any.class() == Class::ContextSpecific && any.tag().0 == tag
}

/// Longest response in bytes. With the responder's certificate they have some 2,000.
const LONGEST: usize = 16 << 10;

/// `OCSPResponseStatus`.
const SUCCESSFUL: u32 = 0;

/// `certStatus`'s tag; 1 is revoked, 2 unknown.
const GOOD: u32 = 0;

/// `id-pkix-ocsp-basic`.
const OCSP_BASIC: Oid<'static> = oid!(1.3.6.1.5.5.7.48.1.1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    const GOOD_RESPONSE: &[u8] = include_bytes!("../../../testdata/tls/good.ocsp");

    fn certificate(pem: &[u8]) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem).unwrap()
    }

    #[test]
    fn a_good_answer_about_the_very_certificate_is_stapled() {
        let site = certificate(include_bytes!("../../../testdata/tls/site.crt"));
        let issuing = certificate(include_bytes!("../../../testdata/tls/issuing.crt"));
        let revoked = include_bytes!("../../../testdata/tls/revoked.ocsp");
        let staple = Staple::read(GOOD_RESPONSE, &site).unwrap();
        assert_eq!(staple.der(), GOOD_RESPONSE);
        assert!(staple.next_update().is_some_and(|end| end > 4_000_000_000), "{staple:?}");
        let long = [GOOD_RESPONSE, &[0; LONGEST]].concat();
        for (response, leaf, error) in [
            (&revoked[..], &site[..], StapleError::NotGood),
            (GOOD_RESPONSE, &issuing, StapleError::AnotherCertificate),
            (&GOOD_RESPONSE[..500], &site, StapleError::Damaged),
            (b"", &site, StapleError::Damaged),
            (&site, &site, StapleError::Damaged),
            // tryLater (3), and no more.
            (b"\x30\x03\x0a\x01\x03", &site, StapleError::Refused),
            (&long, &site, StapleError::TooLong),
            (GOOD_RESPONSE, b"", StapleError::Certificate),
        ] {
            assert_eq!(Staple::read(response, leaf), Err(error));
        }
    }

    proptest! {
        #[test]
        fn a_damaged_response_never_panics(at in 0..GOOD_RESPONSE.len(), byte: u8) {
            let mut response = GOOD_RESPONSE.to_vec();
            response[at] = byte;
            let site = certificate(include_bytes!("../../../testdata/tls/site.crt"));
            let _ = Staple::read(&response, &site);
        }
    }
}
