//! The servers behind the nodes: real nginx over HTTPS, one in each server's namespace, answering as far as Exchange would
//! for this purpose; and the certificates of the lab.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use lb_user::clock::Time;
use lb_user::wall::WallTime;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use crate::lab::{Lab, PUBLIC_NAME};
use crate::sys::{Namespace, Process, find_program};

/// Exchange's virtual directories.
pub const VIRTUAL_DIRECTORIES: [&str; 8] =
    ["owa", "ecp", "EWS", "mapi", "Microsoft-Server-ActiveSync", "Autodiscover", "rpc", "OAB"];

/// A file of this many bytes, as fast as it goes.
pub const LARGE: (&str, usize) = ("/owa/large.bin", 64 << 20);
/// The same file at 1 MiB a second: a request that stays in flight for a minute.
pub const SLOW: &str = "/owa/slow.bin";

/// The lab's certificates: one leaf for all names of the site, the same on nodes and servers, as Exchange's Extended
/// Protection wants it.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// PEM file: the leaf, then the CA.
    pub certificate: PathBuf,
    /// PEM file, mode 0600.
    pub key: PathBuf,
    /// The CA, for clients.
    ca: CertificateDer<'static>,
    /// Its key, for further leaves: PEM file, mode 0600.
    ca_key: PathBuf,
}

impl Certificates {
    /// Makes a CA and a leaf below `folder`.
    pub fn make(folder: &Path) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let ca = authority()?.self_signed(&ca_key)?;
        let made = Self {
            certificate: folder.join("mail.pem"),
            key: folder.join("mail.key"),
            ca: ca.der().clone(),
            ca_key: folder.join("ca.key"),
        };
        write_private(&made.ca_key, &ca_key.serialize_pem())?;
        let (leaf, key) = made.leaf(None)?;
        let chain = leaf + &ca.pem();
        fs::write(&made.certificate, &chain).context("cannot write the certificate")?;
        write_private(&made.key, &key)?;
        // HAProxy wants both in one file.
        write_private(&folder.join("both.pem"), &(chain + &key))?;
        Ok(made)
    }

    /// Another leaf of the same CA and for the same names, with a key of its own, below `folder`.
    pub fn renewed(&self, folder: &Path) -> Result<Self> {
        self.renewed_for(folder, None)
    }

    /// The same, to expire after that time.
    pub fn renewed_for(&self, folder: &Path, life: Option<Duration>) -> Result<Self> {
        let chain = fs::read_to_string(&self.certificate).context("cannot read the certificate")?;
        let ca =
            chain.split_inclusive("-----END CERTIFICATE-----\n").nth(1).context("the chain has no CA")?;
        let (leaf, key) = self.leaf(life)?;
        let renewed =
            Self { certificate: folder.join("mail.pem"), key: folder.join("mail.key"), ..self.clone() };
        fs::create_dir_all(folder).context("cannot make a folder for certificates")?;
        fs::write(&renewed.certificate, leaf + ca).context("cannot write the certificate")?;
        write_private(&renewed.key, &key)?;
        Ok(renewed)
    }

    /// A leaf with its key, both as PEM; it expires after that time, or not in this millennium's first half.
    fn leaf(&self, life: Option<Duration>) -> Result<(String, String)> {
        let ca_key = fs::read_to_string(&self.ca_key).context("cannot read the CA's key")?;
        let issuer = Issuer::new(authority()?, KeyPair::from_pem(&ca_key)?);
        let key = KeyPair::generate()?;
        let names = vec![PUBLIC_NAME.to_owned(), "autodiscover.example.test".to_owned()];
        let mut params = CertificateParams::new(names)?;
        if let Some(life) = life {
            let now = Duration::from_millis(WallTime::now().unix_ms());
            params.not_after = (UNIX_EPOCH + now + life).into();
        }
        let leaf = params.signed_by(&key, &issuer)?;
        Ok((leaf.pem(), key.serialize_pem()))
    }

    /// The same in files of their own below `folder`.
    pub fn copy_to(&self, folder: &Path) -> Result<Self> {
        let copy = |from: &Path, name: &str| {
            let to = folder.join(name);
            fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display())).map(|_| to)
        };
        let (certificate, key) = (copy(&self.certificate, "mail.pem")?, copy(&self.key, "mail.key")?);
        Ok(Self { certificate, key, ..self.clone() })
    }

    /// A client's TLS that trusts the lab's CA alone.
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let config = ClientConfig::builder().with_root_certificates(self.roots()?).with_no_client_auth();
        Ok(Arc::new(config))
    }

    /// The lab's CA alone.
    pub fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).context("the lab's CA is unusable")?;
        Ok(roots)
    }
}

/// What the lab's CA is.
fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Rollcall lab CA");
    Ok(params)
}

/// Writes a file that its owner alone can read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    File::create(path).with_context(cannot)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(cannot)?;
    fs::write(path, text).with_context(cannot)
}

/// A running web server.
#[derive(Debug)]
pub struct Backend {
    /// `sbex1`.
    pub name: String,
    /// Its nginx.
    pub process: Process,
    /// Its folder.
    folder: PathBuf,
}

impl Backend {
    /// Starts nginx on every server of the lab.
    pub fn start_all(lab: &Lab, certificates: &Certificates) -> Result<Vec<Self>> {
        let servers = lab.servers.iter();
        servers.map(|(name, _, namespace)| Self::start(lab, namespace, name, certificates)).collect()
    }

    /// Starts nginx on port 443 of `namespace`, answering as the server `name`.
    pub fn start(lab: &Lab, namespace: &Namespace, name: &str, certificates: &Certificates) -> Result<Self> {
        let folder = lab.folder().join(format!("nginx-{name}"));
        fs::create_dir_all(folder.join("www")).context("cannot make nginx's folder")?;
        // Sparse: it takes no memory.
        let large = File::create(folder.join("www/large.bin"));
        large.and_then(|file| file.set_len(LARGE.1 as u64)).context("cannot make the large file")?;
        let text = configuration(&folder, name, certificates, lab.plan.ipv6);
        let process = start_nginx(namespace, name, &folder, &text)?;
        wait_for_port(namespace, Ipv4Addr::LOCALHOST, 443, &process)?;
        Ok(Self { name: name.to_owned(), process, folder })
    }
}

impl Backend {
    /// While there is this file, it answers everything with 500.
    pub fn broken(&self) -> PathBuf {
        self.folder.join("broken")
    }
}

/// Starts nginx in the foreground in `namespace`, with `http` as the content of its http block.
pub fn start_nginx(namespace: &Namespace, what: &str, folder: &Path, http: &str) -> Result<Process> {
    let file = folder.join("nginx.conf");
    let mut text = format!(
        "daemon off; user root; worker_processes 1; worker_rlimit_nofile 32768; pid {0}/pid; error_log {0}/error.log;\nevents {{ worker_connections 32768; }}\nhttp {{\naccess_log off;\n",
        folder.display()
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "{kind}_temp_path {}/{kind};", folder.display())?;
    }
    fs::write(&file, text + http + "}\n").context("cannot write nginx.conf")?;
    let mut nginx = Command::new(find_program("nginx")?);
    nginx.arg("-p").arg(folder).arg("-c").arg(&file);
    nginx.arg("-e").arg(folder.join("error.log"));
    Process::start(&format!("nginx on {what}"), namespace, &mut nginx, &folder.join("error.log"))
}

/// Starts haproxy in the foreground in `namespace`, with `text` as its `file`.
pub fn start_haproxy(namespace: &Namespace, what: &str, file: &Path, text: &str) -> Result<Process> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(find_program("haproxy")?);
    command.args(["-db", "-f"]).arg(file);
    Process::start(what, namespace, &mut command, &file.with_extension("log"))
}

/// Waits until something accepts connections on a port of `namespace`; the error carries the end of the process's log.
pub fn wait_for_port(namespace: &Namespace, address: Ipv4Addr, port: u16, process: &Process) -> Result<()> {
    let target = SocketAddr::from((address, port));
    let deadline = Time::now() + Duration::from_secs(10);
    while Time::now() < deadline {
        let connected =
            namespace.enter(|| TcpStream::connect_timeout(&target, Duration::from_millis(200)))?;
        if connected.is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!(
        "nothing accepts connections on {target} in {} within 10 s\n{}",
        namespace.name(),
        process.log_tail()
    )
}

fn configuration(folder: &Path, name: &str, certificates: &Certificates, ipv6: bool) -> String {
    let listen6 = if ipv6 { "listen [::]:443 ssl reuseport;" } else { "" };
    let all = VIRTUAL_DIRECTORIES.join("|");
    let upper = name.to_uppercase();
    format!(
        r#"
keepalive_requests 1000000; keepalive_timeout 300s; client_max_body_size 0;
server {{
    listen 443 ssl reuseport; {listen6} server_name _;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    add_header X-Server {name} always;
    root {folder}/www;
    if (-f {folder}/broken) {{ return 500; }}
    location ~* ^/({all})/healthcheck\.htm$ {{ default_type text/html; return 200 "200 OK<br/>{upper}.example.test"; }}
    location = {large} {{ alias {folder}/www/large.bin; }}
    location = {SLOW} {{ alias {folder}/www/large.bin; limit_rate 1m; }}
    location ~* ^/({all})(/|$) {{ default_type text/plain; return 200 "{name}\n"; }}
}}
"#,
        certificate = certificates.certificate.display(),
        key = certificates.key.display(),
        folder = folder.display(),
        large = LARGE.0,
    )
}
