//! What a server presented: when that was not what it must, and last, for status.

use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustls::{CertificateError, OtherError};
use rustls_pki_types::CertificateDer;
use thiserror::Error;

use super::{Facts, Fingerprint};

/// A server did not prove who it is. No request was sent to it.
#[derive(Clone, Debug, PartialEq, Error)]
#[error(
    "{reason}; it presents {presented}; hint: {}, or, if this is the right server, write in its farm: pins = [\"{}\"]",
    reason.hint(),
    presented.sha256
)]
pub struct ServerTlsFailure {
    /// What is wrong with it.
    pub reason: Reason,
    /// What the server presented.
    pub presented: Facts,
}

impl ServerTlsFailure {
    /// The failure behind `error`, which may be rustls's own, an `io::Error` around it, or have either as a cause.
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut error = Some(error);
        // Bounded, as a chain of causes made by others need not end.
        for _ in 0..DEEPEST {
            let current = error?;
            if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
                current.downcast_ref()
            {
                return inner.downcast_ref();
            }
            // An `io::Error` has what it wraps not as its source, but as itself.
            let wrapped = current.downcast_ref().and_then(io::Error::get_ref);
            error = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => current.source(),
            };
        }
        None
    }
}

/// What is wrong with a server's certificate.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Reason {
    /// It is not the site's.
    #[error("the server presents another certificate than the site's")]
    AnotherCertificate,
    /// No pin is for it.
    #[error("the server's certificate and key are not pinned")]
    NotPinned,
    /// It is not good under the farm's CA.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(rustls::Error),
}

impl Reason {
    fn hint(&self) -> &'static str {
        match self {
            Self::AnotherCertificate => {
                "import the site's certificate on the server and bind it in IIS, which Extended Protection needs"
            }
            Self::NotPinned => "look whether the server's certificate was replaced",
            Self::Untrusted(_) => "name the CA that issued it, and a name that it is for",
        }
    }
}

/// The certificate that one server presented last, so that status can tell which servers have the old one and which the new.
#[derive(Debug, Default)]
pub struct LastPresented(Mutex<Option<Facts>>);

impl LastPresented {
    /// Notes the leaf of a handshake that went well; whether it is another than before.
    pub fn note(&self, leaf: &CertificateDer<'_>) -> bool {
        let known = self.is(Fingerprint::of(leaf));
        if !known {
            self.set(Facts::of(leaf));
        }
        !known
    }

    /// Notes what a handshake failed for; whether it is another than before.
    pub fn note_failure(&self, failure: &ServerTlsFailure) -> bool {
        let known = self.is(failure.presented.sha256);
        if !known {
            self.set(failure.presented.clone());
        }
        !known
    }

    /// The certificate; `None` before the first handshake.
    pub fn facts(&self) -> Option<Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is(&self, sha256: Fingerprint) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|last| last.sha256 == sha256)
    }

    fn set(&self, facts: Facts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
    }
}

/// How many causes are looked through.
const DEEPEST: usize = 16;
