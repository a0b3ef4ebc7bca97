//! A private key in its normal form, PKCS#8 (RFC 5958), from any of the three that PEM files have.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A key that rustls can use.
pub(super) struct PrivateKey {
    der: PrivatePkcs8KeyDer<'static>,
    public: Vec<u8>,
}

impl PrivateKey {
    /// `None`: of no algorithm or size that rustls has.
    pub(super) fn read(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let der = match der {
            PrivateKeyDer::Pkcs8(der) => der.secret_pkcs8_der().to_vec(),
            PrivateKeyDer::Pkcs1(der) => from_pkcs1(der.secret_pkcs1_der())?,
            PrivateKeyDer::Sec1(der) => from_sec1(der.secret_sec1_der())?,
            _ => return None,
        };
        let der = PrivatePkcs8KeyDer::from(der);
        let signing = any_supported_type(&PrivateKeyDer::Pkcs8(der.clone_key())).ok()?;
        let public = signing.public_key()?.to_vec();
        Some(Self { der, public })
    }

    /// The public key: DER `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7).
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn into_der(self) -> PrivatePkcs8KeyDer<'static> {
        self.der
    }
}

/// RFC 8017 A.1.2.
fn from_pkcs1(der: &[u8]) -> Option<Vec<u8>> {
    let pkcs8: Pkcs8V1Der<'_> = rsa::KeyPair::from_der(der).ok()?.as_der().ok()?;
    Some(pkcs8.as_ref().to_vec())
}

/// RFC 5915; the curve may be missing there, so each is tried.
fn from_sec1(der: &[u8]) -> Option<Vec<u8>> {
    let curves =
        [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
    let key = curves.into_iter().find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der).ok())?;
    Some(key.to_pkcs8v1().ok()?.as_ref().to_vec())
}
