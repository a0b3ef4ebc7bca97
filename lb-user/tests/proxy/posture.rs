//! How the proxy's TLS looks from outside: to sslyze, which has Mozilla's profiles, and testssl.sh; and that tickets resume on
//! another worker unless clients are asked for more by then.

use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lb_user::proxy::snapshot::{Snapshot, Verify};
use lb_user::proxy::tls::{self, ClientAuth, SiteTls};
use lb_user::wall::WallTime;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::HandshakeKind;
use rustls::client::Resumption;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::backend::Backend;
use crate::setup::{Identity, NAME, Running, http2_too};

/// A certificate as a CA would issue it, for ninety days; and the CA's own.
fn issued() -> (Identity, String) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(WallTime::now().unix_ms());
    let day = Duration::from_secs(86_400);
    let valid = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = ((now - day).into(), (now + 89 * day).into());
    };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "The test's CA");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut authority);
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let mut leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, NAME);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.use_authority_key_identifier_extension = true;
    let uris = vec!["http://ca.example.test/crl".to_owned()];
    leaf.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut leaf);
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    (Identity { certificate: leaf.pem() + &root.pem(), key: key.serialize_pem() }, root.pem())
}

async fn running(identity: &Identity, change: impl FnOnce(&mut Snapshot)) -> (Running, Backend) {
    let backend = Backend::start("a", identity).await;
    let running = Running::start(identity, &[backend.address], |snapshot| {
        snapshot.sites[0].service.hsts = Some(Duration::from_secs(2 * 365 * 86_400));
        change(snapshot);
    })
    .await;
    (running, backend)
}

#[tokio::test(flavor = "multi_thread")]
async fn sslyze_finds_mozillas_intermediate_profile() {
    let (identity, ca) = issued();
    let (running, _backend) = running(&identity, http2_too).await;
    let trusted = std::env::temp_dir().join(format!("rollcall-sslyze-{}.pem", std::process::id()));
    std::fs::write(&trusted, ca).unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = format!("{NAME}:{}{{127.0.0.1}}", running.address.port());
    let mut sslyze = Command::new(workspace.join("target/python/bin/python"));
    sslyze.args(["-m", "sslyze", "--mozilla_config=intermediate", "--certinfo_ca_file"]);
    sslyze.arg(&trusted).arg(&target).kill_on_drop(true);
    let output = sslyze.output().await.expect("a program that `cargo xtask setup` installs");
    std::fs::remove_file(&trusted).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("OK - Compliant"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn testssl_finds_nothing_of_medium_severity_or_worse_but_the_tests_ca() {
    let (running, _backend) = running(&issued().0, http2_too).await;
    let mut bad = bad_findings(running.address.port()).await;
    // On a busy machine its own client may give a check up; what it could not look at it looks at again.
    for _ in 0..2 {
        if bad.is_empty() || bad.iter().any(|finding| !finding.finding.contains("connect problem")) {
            break;
        }
        bad = bad_findings(running.address.port()).await;
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

/// What testssl.sh finds there of medium severity or worse.
async fn bad_findings(port: u16) -> Vec<Finding> {
    let report = std::env::temp_dir().join(format!("rollcall-testssl-{}.json", std::process::id()));
    let mut testssl = Command::new("testssl");
    testssl.args(["--quiet", "--color", "0", "--warnings", "batch", "--ip", "127.0.0.1"]);
    // All but the simulation of clients, which is about them, and the ciphers one by one, which are in these.
    for check in ["-p", "-s", "-f", "-P", "-S", "-h", "-U"] {
        testssl.arg(check);
    }
    testssl.arg("--jsonfile").arg(&report).arg(format!("{NAME}:{port}")).kill_on_drop(true);
    let output = testssl.output().await.expect("a program that `cargo xtask setup` installs");
    let text = std::fs::read_to_string(&report).expect("its report");
    std::fs::remove_file(&report).unwrap();
    let findings: Vec<Finding> = serde_json::from_str(&text).unwrap();
    // It did look.
    assert!(findings.iter().any(|finding| finding.id == "TLS1_3" && finding.severity == "OK"), "{output:?}");
    assert!(findings.len() > 50, "{text}");
    // The other one is testssl.sh's word on the openssl of the machine that it runs on, some of which have no engines any more.
    let known = ["cert_chain_of_trust", "engine_problem"];
    let bad = findings.into_iter().filter(|finding| {
        !["OK", "INFO", "LOW", "DEBUG"].contains(&finding.severity.as_str())
            && !known.contains(&finding.id.as_str())
    });
    bad.collect()
}

/// A line of testssl.sh's report.
#[derive(Debug, serde::Deserialize)]
struct Finding {
    id: String,
    severity: String,
    finding: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_resumes_on_another_worker_unless_clients_must_show_certificates_there() {
    let (identity, ca) = issued();
    let (one, _first) = running(&identity, |_| {}).await;
    let (another, _second) = running(&identity, |_| {}).await;
    let (strict, _third) = running(&identity, |snapshot| {
        let client_auth = ClientAuth::Required { ca: ca.clone() };
        snapshot.sites[0].tls = SiteTls { client_auth, ..SiteTls::default() };
    })
    .await;
    let mut config = (*tls::client_config(&Verify::Nothing, Vec::new()).unwrap()).clone();
    config.resumption = Resumption::in_memory_sessions(8);
    let client = TlsConnector::from(Arc::new(config));
    assert_eq!(served(&client, one.address).await, Ok(HandshakeKind::Full));
    assert_eq!(served(&client, another.address).await, Ok(HandshakeKind::Resumed));
    // It has a ticket that the others would take.
    assert!(served(&client, strict.address).await.is_err());
}

/// How a handshake went after which a request was answered.
async fn served(client: &TlsConnector, address: SocketAddrV4) -> Result<HandshakeKind, std::io::ErrorKind> {
    let stream = TcpStream::connect(address).await.unwrap();
    let failed = |error: std::io::Error| error.kind();
    let mut stream = client.connect(tls::server_name(NAME).unwrap(), stream).await.map_err(failed)?;
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let ask = format!("GET /who HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(failed)?;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    Ok(kind)
}
