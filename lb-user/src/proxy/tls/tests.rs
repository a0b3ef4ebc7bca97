//! Real handshakes in memory, and what certificates may be used.

mod servers;
mod sites;
mod staples;

use std::io::{Read as _, Write as _};

use rustls::{ClientConnection, HandshakeKind, ServerConnection};

use super::*;

/// A self-signed certificate with its key.
struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    fn new(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn leaf(&self) -> CertificateDer<'static> {
        certificates(&self.certificate).unwrap().remove(0)
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        certified_key(&self.certificate, &self.key).unwrap()
    }
}

/// Carries bytes both ways until the handshake is over, then a greeting, so that tickets arrive.
fn converse(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    for round in 0..20 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut unread = bytes.as_slice();
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut unread = bytes.as_slice();
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() && round > 3 {
            break;
        }
    }
    client.writer().write_all(b"hello").unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    server.read_tls(&mut bytes.as_slice()).unwrap();
    server.process_new_packets()?;
    let mut heard = [0; 5];
    server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    Ok(())
}

#[test]
fn a_certificate_goes_with_its_own_key_alone() {
    let (ours, theirs) = (Identity::new(&["mail.example.test"]), Identity::new(&["mail.example.test"]));
    assert!(certified_key(&ours.certificate, &ours.key).is_ok());
    assert!(matches!(certified_key(&theirs.certificate, &ours.key), Err(TlsError::Mismatch)));
    assert!(matches!(certified_key("", &ours.key), Err(TlsError::NoCertificate)));
    assert!(matches!(certified_key(&ours.certificate, &ours.certificate), Err(TlsError::NoKey)));
}

/// <https://ssl-config.mozilla.org/guidelines/5.7.json>, `intermediate`; X25519MLKEM768 came after it.
#[test]
fn nothing_is_offered_that_mozillas_intermediate_profile_has_not() {
    let provider = client_provider();
    let mut suites: Vec<String> =
        provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
    suites.sort_unstable();
    assert_eq!(
        suites,
        [
            "TLS13_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ]
    );
    let groups = |provider: &CryptoProvider| -> Vec<String> {
        provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect()
    };
    assert_eq!(groups(&provider), ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"]);
    assert_eq!(groups(&server_provider()), ["X25519", "secp256r1", "secp384r1"]);
}
