//! The proxy as a client of servers: whom it trusts, what it says of those it does not, and when it resumes.

use std::io;

use rustls::{ClientConfig, ServerConfig, version};
use rustls_pki_types::PrivatePkcs8KeyDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::*;

const NAME: &str = "mail.example.test";

fn server(identity: &Identity) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(client_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![identity.leaf()], key).unwrap())
}

fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<ClientConnection, rustls::Error> {
    let mut client = ClientConnection::new(Arc::clone(client), server_name(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    converse(&mut client, &mut server)?;
    Ok(client)
}

fn key_pin(identity: &Identity) -> Fingerprint {
    let leaf = identity.leaf();
    Fingerprint::of(X509Certificate::from_der(&leaf).unwrap().1.public_key().raw)
}

#[test]
fn a_server_is_trusted_for_what_the_farm_says_and_for_nothing_else() {
    let (ours, theirs) = (Identity::new(&[NAME]), Identity::new(&[NAME]));
    let pin = |identity: &Identity| Fingerprint::of(&identity.leaf());
    let failure = |reason| Some(ServerTlsFailure { reason, presented: Facts::of(&ours.leaf()) });
    for (trust, name, expected) in [
        (Trust::Leaves(vec![ours.leaf()]), NAME, None),
        (Trust::Leaves(vec![theirs.leaf(), ours.leaf()]), "other.test", None),
        (Trust::Leaves(vec![theirs.leaf()]), NAME, failure(Reason::AnotherCertificate)),
        (Trust::Leaves(Vec::new()), NAME, failure(Reason::AnotherCertificate)),
        (Trust::Pins(vec![pin(&ours)]), "other.test", None),
        (Trust::Pins(vec![pin(&theirs), key_pin(&ours)]), NAME, None),
        (Trust::Pins(vec![pin(&theirs), key_pin(&theirs)]), NAME, failure(Reason::NotPinned)),
        (Trust::Pins(Vec::new()), NAME, failure(Reason::NotPinned)),
        (Trust::Ca(ours.certificate.clone()), NAME, None),
        (Trust::Nothing, "other.test", None),
    ] {
        let client = server_trust_config(trust.clone()).unwrap();
        let error = handshake(&client, &server(&ours), name).err();
        let failure = error.map(|error| ServerTlsFailure::find(&error).unwrap().clone());
        assert_eq!(failure, expected, "{trust:?}");
    }
    for (ca, name) in [(&theirs.certificate, NAME), (&ours.certificate, "other.test")] {
        let client = server_trust_config(Trust::Ca(ca.clone())).unwrap();
        let error = handshake(&client, &server(&ours), name).unwrap_err();
        let failure = ServerTlsFailure::find(&error).unwrap();
        assert!(matches!(failure.reason, Reason::Untrusted(_)), "{failure}");
        assert_eq!(failure.presented, Facts::of(&ours.leaf()));
    }
    assert!(matches!(server_trust_config(Trust::Ca(String::new())), Err(TlsError::NoCertificate)));
}

#[test]
fn a_server_that_has_only_a_copy_of_the_certificate_is_not_trusted() {
    let (ours, theirs) = (Identity::new(&[NAME]), Identity::new(&[NAME]));
    let stolen = CertifiedKey::new(vec![ours.leaf()], theirs.certified().key.clone());
    let config = ServerConfig::builder_with_provider(client_provider())
        .with_protocol_versions(&[&version::TLS12, &version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(stolen)));
    let config = Arc::new(config);
    for trust in [
        Trust::Leaves(vec![ours.leaf()]),
        Trust::Pins(vec![Fingerprint::of(&ours.leaf())]),
        Trust::Ca(ours.certificate.clone()),
    ] {
        assert!(handshake(&server_trust_config(trust).unwrap(), &config, NAME).is_err());
    }
}

#[test]
fn a_failure_says_what_was_presented_and_which_line_accepts_it_also_from_within_other_errors() {
    let (ours, theirs) = (Identity::new(&[NAME]), Identity::new(&[NAME]));
    let client = server_trust_config(Trust::Leaves(vec![ours.leaf()])).unwrap();
    let error = handshake(&client, &server(&theirs), NAME).unwrap_err();
    // As tokio-rustls hands it on.
    let error = io::Error::new(io::ErrorKind::InvalidData, error);
    let failure = ServerTlsFailure::find(&error).unwrap().clone();
    let pin = Fingerprint::of(&theirs.leaf());
    let text = failure.to_string();
    for part in ["rcgen self signed cert", NAME, &format!("pins = [\"{pin}\"]"), "; hint: "] {
        assert!(text.contains(part), "{text} has no `{part}`");
    }
    let outer = io::Error::other(TlsError::Unusable(rustls::Error::DecryptError));
    assert_eq!(ServerTlsFailure::find(&outer), None);
    // The line's pin does accept it.
    let client = server_trust_config(Trust::Pins(vec![pin])).unwrap();
    assert!(handshake(&client, &server(&theirs), NAME).is_ok());
}

#[test]
fn sessions_are_resumed_under_the_same_policy_and_never_under_another() {
    let (ours, theirs) = (Identity::new(&[NAME]), Identity::new(&[NAME]));
    for version in [&version::TLS12, &version::TLS13] {
        let mut config = ServerConfig::builder_with_provider(client_provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![theirs.leaf()], PrivatePkcs8KeyDer::from(key_der(&theirs)).into())
            .unwrap();
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let server = Arc::new(config);
        let before = server_trust_config(Trust::Nothing).unwrap();
        let kind = |client| handshake(client, &server, NAME).unwrap().handshake_kind();
        assert_eq!(kind(&before), Some(HandshakeKind::Full));
        assert_eq!(kind(&before), Some(HandshakeKind::Resumed), "{version:?}");
        for trust in
            [Trust::Leaves(vec![ours.leaf()]), Trust::Pins(Vec::new()), Trust::Ca(ours.certificate.clone())]
        {
            let after = server_trust_config(trust).unwrap();
            assert!(handshake(&after, &server, NAME).is_err(), "{version:?}");
        }
        // The same policy again has another store all the same.
        assert_eq!(kind(&server_trust_config(Trust::Nothing).unwrap()), Some(HandshakeKind::Full));
    }
}

fn key_der(identity: &Identity) -> Vec<u8> {
    rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(identity.key.as_bytes())
        .unwrap()
        .secret_pkcs8_der()
        .to_vec()
}

#[test]
fn servers_are_asked_for_http_1_1_by_name() {
    let identity = Identity::new(&[NAME]);
    let mut config = ServerConfig::clone(&server(&identity));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = server_trust_config(Trust::Nothing).unwrap();
    let connection = handshake(&client, &Arc::new(config), NAME).unwrap();
    assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn what_a_server_presented_last_is_kept_and_a_change_is_told() {
    let (old, new) = (Identity::new(&[NAME]), Identity::new(&[NAME]));
    let last = LastPresented::default();
    assert_eq!(last.facts(), None);
    assert!(last.note(&old.leaf()));
    assert!(!last.note(&old.leaf()));
    assert_eq!(last.facts(), Some(Facts::of(&old.leaf())));
    let failure = ServerTlsFailure { reason: Reason::NotPinned, presented: Facts::of(&new.leaf()) };
    assert!(last.note_failure(&failure));
    assert!(!last.note_failure(&failure));
    assert!(!last.note(&new.leaf()));
    assert_eq!(last.facts(), Some(Facts::of(&new.leaf())));
}
