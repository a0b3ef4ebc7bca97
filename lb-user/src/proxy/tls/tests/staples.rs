//! What clients see stapled.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::UnixTime;

use super::sites::{VERSIONS, handshake};
use super::*;
use crate::proxy::route::{NamedSite, Routes};

#[test]
fn the_ocsp_response_is_stapled_until_it_expires() {
    let read =
        |name: &str| std::fs::read(format!("{}/testdata/tls/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let text = |name: &str| String::from_utf8(read(name)).unwrap();
    let key = certified_key(&text("site.crt"), &text("site.pkcs8.key")).unwrap();
    let response = read("good.ocsp");
    let staple = Staple::read(&response, &key.cert[0]).unwrap();
    let end = staple.next_update().unwrap();
    let tls = SiteTls::default();
    let site = ServedSite { id: "mail".to_owned(), key, staple: Some(staple), tls: tls.clone() };
    let names = ["mail.example.test".to_owned()];
    let routes = Routes::new([NamedSite { site: 0, names: &names, certificate: "", tls: &tls }]);
    let now = Arc::new(AtomicU64::new(0));
    let clock = { Arc::clone(&now) };
    let clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let tickets = TicketSettings { secrets: Vec::new(), epoch: 1, clock };
    let configs = server_configs(std::slice::from_ref(&site), &tickets).unwrap();
    let node = SiteConfigs::new(Arc::new(routes), &[site], configs).unwrap();
    let times = [(0, &response[..]), (end - 1, &response), (end, b"")];
    for (version, (time, shown)) in VERSIONS.iter().flat_map(|version| times.map(|time| (*version, time))) {
        now.store(time, Ordering::SeqCst);
        let mut client = ClientConfig::builder_with_provider(client_provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let listener = Arc::new(Listener { stapled: Mutex::default(), provider: client_provider() });
        client.dangerous().set_certificate_verifier(Arc::clone(&listener) as Arc<dyn ServerCertVerifier>);
        handshake(&Arc::new(client), &node, "mail.example.test").unwrap();
        assert_eq!(*listener.stapled.lock().unwrap(), shown, "{version:?} at {time}");
    }
}

/// Remembers what was stapled.
#[derive(Debug)]
struct Listener {
    stapled: Mutex<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Listener {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().unwrap() = ocsp.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
