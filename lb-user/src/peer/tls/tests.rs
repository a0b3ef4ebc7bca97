//! Who is let in over TLS, and what both ends know then.

use rustls::RootCertStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::shared::keys::tests::keys;

fn seed(number: u8) -> Seed {
    keys(number).transport()
}

fn key(number: u8) -> VerifyingKey {
    seed(number).public()
}

fn identity(number: u8) -> Identity {
    Identity::new(&seed(number)).unwrap()
}

fn name() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").unwrap()
}

/// What the client and the server make of each other, once each has sent the other a byte.
async fn met(client: ClientConfig, server: ServerConfig) -> (Result<Proven, Why>, Result<Proven, Why>) {
    let (near, far) = duplex(64 << 10);
    let client = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name(), near).await?;
        stream.write_all(&[1]).await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await?;
        let connection = stream.get_ref().1;
        let proven = Proven::of(connection, |to, label| connection.export_keying_material(to, label, None));
        proven.ok_or(io::Error::other(Error::General("no node".to_owned())))
    };
    let server = async {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        stream.read_exact(&mut [0]).await?;
        stream.write_all(&[1]).await?;
        stream.flush().await?;
        let connection = stream.get_ref().1;
        let proven = Proven::of(connection, |to, label| connection.export_keying_material(to, label, None));
        proven.ok_or(io::Error::other(Error::General("no node".to_owned())))
    };
    let (client, server) = tokio::join!(client, server);
    (client.map_err(|error| why_of(&error)), server.map_err(|error| why_of(&error)))
}

#[tokio::test]
async fn both_ends_prove_their_keys_and_share_a_binding_that_no_other_connection_has() {
    let mut bindings = Vec::new();
    for _ in 0..2 {
        let client = identity(1).client(key(2), Arc::default()).unwrap();
        let server = identity(2).server(|presented| presented == key(1)).unwrap();
        let (client, server) = met(client, server).await;
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!((client.key, server.key), (key(2), key(1)));
        assert_eq!(client.binding, server.binding);
        bindings.push(client.binding);
    }
    assert_ne!(bindings[0], bindings[1]);
}

#[tokio::test]
async fn another_key_than_the_wanted_one_is_refused_and_known() {
    let presented = Arc::<OnceLock<_>>::default();
    let client = identity(1).client(key(2), Arc::clone(&presented)).unwrap();
    let server = identity(3).server(|_| true).unwrap();
    let (client, server) = met(client, server).await;
    assert!(client.is_err() && server.is_err(), "{client:?} {server:?}");
    assert_eq!(presented.get(), Some(&key(3)));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let client = identity(1).client(key(2), Arc::default()).unwrap();
    let server = identity(2).server(|_| false).unwrap();
    let (client, server) = met(client, server).await;
    assert_eq!(client, Err(Why::Unlisted));
    assert!(server.is_err());
}

#[tokio::test]
async fn certificates_and_older_versions_and_other_protocols_are_not_spoken() {
    let plain = || {
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    };
    let old = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut other = identity(1).client(key(2), Arc::default()).unwrap();
    other.alpn_protocols = vec![b"h2".to_vec()];
    let mut none = identity(1).client(key(2), Arc::default()).unwrap();
    none.alpn_protocols = Vec::new();
    for (client, what) in [(plain(), "certificates"), (old, "TLS 1.2"), (other, "h2"), (none, "no protocol")]
    {
        let server = identity(2).server(|_| true).unwrap();
        let (_, server) = met(client, server).await;
        assert!(server.is_err(), "{what}");
    }
}

#[test]
fn a_key_has_one_spelling_as_der() {
    let spki = spki_of(key(1));
    assert_eq!(key_of(&spki), Some(key(1)));
    for at in 0..SPKI_HEAD.len() {
        let mut damaged = spki.clone();
        damaged[at] ^= 1;
        assert_eq!(key_of(&damaged), None, "{at}");
    }
    for length in 0..spki.len() {
        assert_eq!(key_of(&spki[..length]), None, "{length}");
    }
    assert_eq!(key_of(&[&spki[..], &[0]].concat()), None);
}
