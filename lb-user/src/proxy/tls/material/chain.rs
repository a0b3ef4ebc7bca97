//! Which certificate is the site's own, and which lead from there towards a root. Names and key identifiers decide, as in
//! RFC 5280 6.1; signatures are the client's affair.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::MaterialError;

/// Certificates put in order.
pub(super) struct Sorted {
    /// The site's own first, each followed by its issuer's, no self-signed root.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// What is not part of it, roots apart.
    pub(super) unrelated: Vec<CertificateDer<'static>>,
}

/// Sorts `certificates` into the chain of the one whose public key is `public` (DER `SubjectPublicKeyInfo`).
pub(super) fn sort(certificates: &[CertificateDer<'static>], public: &[u8]) -> Result<Sorted, MaterialError> {
    let mut left: Vec<Candidate<'_>> = certificates.iter().filter_map(Candidate::new).collect();
    if left.is_empty() {
        return Err(MaterialError::NoCertificate);
    }
    let own = |candidate: &Candidate<'_>| candidate.parsed.public_key().raw == public;
    let mut chain = vec![take_best(&mut left, own, Candidate::end).ok_or(MaterialError::Mismatch)?];
    // Superseded certificates of the same key are no part of the chain, though their issuers may be.
    let superseded: Vec<_> = left.extract_if(.., |candidate| own(candidate)).collect();
    while let Some(last) = chain.last().filter(|last| !last.is_self_issued()) {
        let issuer = |candidate: &Candidate<'_>| candidate.may_have_issued(last);
        let preferred = |candidate: &Candidate<'_>| {
            // A cross-signed certificate reaches clients of both roots.
            (!candidate.is_self_issued(), candidate.end())
        };
        match take_best(&mut left, issuer, preferred) {
            Some(issuer) => chain.push(issuer),
            None => break,
        }
    }
    // A root of this chain is no stranger, even where a cross-signed certificate stands for it.
    let root = |root: &Candidate<'_>| {
        root.is_self_issued() && chain.iter().any(|member| root.names_issuer_of(member))
    };
    left.retain(|candidate| !root(candidate));
    if chain.len() > 1 && chain.last().is_some_and(Candidate::is_self_issued) {
        chain.pop();
    }
    let der = |candidate: Candidate<'_>| candidate.der.clone();
    Ok(Sorted {
        chain: chain.into_iter().map(der).collect(),
        unrelated: superseded.into_iter().chain(left).map(der).collect(),
    })
}

/// Takes out of `candidates` the fitting one that ranks highest; of equals the first.
fn take_best<'a, R: Ord>(
    candidates: &mut Vec<Candidate<'a>>,
    fits: impl Fn(&Candidate<'a>) -> bool,
    rank: impl Fn(&Candidate<'a>) -> R,
) -> Option<Candidate<'a>> {
    let fitting = candidates.iter().enumerate().filter(|(_, candidate)| fits(candidate));
    // `max_by_key` gives the last of equals.
    let (best, _) = fitting.rev().max_by_key(|(_, candidate)| rank(candidate))?;
    Some(candidates.remove(best))
}

struct Candidate<'a> {
    der: &'a CertificateDer<'static>,
    parsed: X509Certificate<'a>,
}

impl<'a> Candidate<'a> {
    fn new(der: &'a CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self { der, parsed })
    }

    fn end(&self) -> i64 {
        self.parsed.validity().not_after.timestamp()
    }

    fn is_self_issued(&self) -> bool {
        self.parsed.subject().as_raw() == self.parsed.issuer().as_raw()
    }

    fn names_issuer_of(&self, other: &Self) -> bool {
        self.parsed.subject().as_raw() == other.parsed.issuer().as_raw()
    }

    fn may_have_issued(&self, other: &Self) -> bool {
        let keys_differ = match (self.subject_key(), other.issuer_key()) {
            (Some(own), Some(wanted)) => own != wanted,
            (Some(_) | None, _) => false,
        };
        self.names_issuer_of(other) && !keys_differ
    }

    /// RFC 5280 4.2.1.2.
    fn subject_key(&self) -> Option<&[u8]> {
        self.parsed.extensions().iter().find_map(|extension| {
            let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() else {
                return None;
            };
            Some(id.0)
        })
    }

    /// RFC 5280 4.2.1.1.
    fn issuer_key(&self) -> Option<&[u8]> {
        self.parsed.extensions().iter().find_map(|extension| {
            let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() else {
                return None;
            };
            id.key_identifier.as_ref().map(|id| id.0)
        })
    }
}
