//! An etcd of one member that goes with the test, and a child that talks to it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lb_user::config::model::Endpoint;
use lb_user::etcd::Settings;
use lb_user::etcd::request::{Reply, Request};
use lb_user::etcd::supervisor::{Spec, Store, Supervisor};
use lb_user::shared::exchange::Listing;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};

/// A user that no /etc/passwd knows.
pub(crate) const USER: &str = "64751";

/// Long enough for whatever has to come.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// What the nodes' user may write below.
pub(crate) const PREFIX: &str = "/clusters/dmz";

const PASSWORD: &str = "\"quoted\"\\\u{fc}";

/// A member. Dropped, it is gone with all that it had.
pub(crate) struct Member {
    pub(crate) endpoint: Endpoint,
    folder: PathBuf,
    process: Option<Child>,
    ca: Option<Authority>,
}

/// A CA, and the certificate that the nodes present.
struct Authority {
    pem: String,
    client: (String, String),
    /// One that a name stands in.
    named: (String, String),
}

impl Member {
    /// Without TLS, and open to everybody.
    pub(crate) fn open() -> Self {
        let mut member = Self::new(false);
        member.start();
        member
    }

    /// With TLS both ways, and users: `rollcall` may write below [`PREFIX`].
    pub(crate) fn guarded() -> Self {
        let mut member = Self::new(true);
        member.start();
        for command in [
            "user add root:secret",
            "user grant-role root root",
            "role add nodes",
            "role grant-permission nodes --prefix=true readwrite /clusters/dmz/",
            &format!("user add rollcall:{PASSWORD}"),
            "user grant-role rollcall nodes",
        ] {
            member.control(command);
        }
        member.control("auth enable");
        member
    }

    fn new(tls: bool) -> Self {
        let address = address();
        let folder = std::env::temp_dir().join(format!("rollcall-etcd-{}", address.ip()));
        std::fs::create_dir_all(&folder).unwrap();
        let ca = tls.then(|| Authority::make(&folder, *address.ip()));
        Self { endpoint: Endpoint { tls, address }, folder, process: None, ca }
    }

    /// Starts it, with what it had before, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let (client, peers) =
            (self.endpoint.to_string(), format!("http://{}:2380", self.endpoint.address.ip()));
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(self.folder.join("data"));
        etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        etcd.args(["--initial-cluster", &format!("default={peers}")]);
        if self.endpoint.tls {
            for (option, file) in [("cert", "member.pem"), ("key", "member.key"), ("trusted-ca", "ca.pem")] {
                etcd.arg(format!("--{option}-file")).arg(self.folder.join(file));
            }
            etcd.arg("--client-cert-auth");
        }
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        etcd.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(etcd.spawn().expect("etcd of Debian's etcd-server; hint: cargo xtask setup"));
        for _ in 0..600 {
            if self.etcdctl("get --limit=1 --prefix /").is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("etcd did not come up:\n{}", std::fs::read_to_string(self.folder.join("log")).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// What `etcdctl COMMAND` prints.
    pub(crate) fn control(&self, command: &str) -> String {
        self.etcdctl(command).unwrap_or_else(|| panic!("etcdctl {command} failed"))
    }

    fn etcdctl(&self, command: &str) -> Option<String> {
        let mut etcdctl = Command::new("etcdctl");
        etcdctl.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint.to_string()]);
        if self.endpoint.tls {
            for (option, file) in [("cacert", "ca.pem"), ("cert", "client.pem"), ("key", "client.key")] {
                etcdctl.arg(format!("--{option}")).arg(self.folder.join(file));
            }
            // Counts only once users are asked for.
            etcdctl.args(["--user", "root:secret"]);
        }
        etcdctl.args(command.split(' ')).stdin(Stdio::null()).stderr(Stdio::null());
        let output = etcdctl.output().expect("etcdctl of Debian's etcd-client; hint: cargo xtask setup");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All keys, one a line.
    pub(crate) fn keys(&self) -> Vec<String> {
        let printed = self.control("get --keys-only --prefix /");
        printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// A certificate for the nodes with a name in it.
    pub(crate) fn named(&self) -> Option<(String, String)> {
        self.ca.as_ref().map(|ca| ca.named.clone())
    }

    /// As the nodes are to come to it.
    pub(crate) fn settings(&self) -> Settings {
        let ca = self.ca.as_ref();
        Settings {
            endpoints: vec![self.endpoint],
            prefix: PREFIX.to_owned(),
            ca: ca.map(|ca| ca.pem.clone()).unwrap_or_default(),
            identity: ca.map(|ca| ca.client.clone()),
            user: ca.map(|_| ("rollcall".to_owned(), PASSWORD.to_owned())),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Authority {
    fn make(folder: &Path, address: Ipv4Addr) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let issue = |name: &str,
                     common_name: Option<&str>,
                     address: Option<Ipv4Addr>,
                     uses: &[ExtendedKeyUsagePurpose]| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = DistinguishedName::new();
            if let Some(name) = common_name {
                params.distinguished_name.push(DnType::CommonName, name);
            }
            params.subject_alt_names =
                address.map(|address| SanType::IpAddress(address.into())).into_iter().collect();
            params.extended_key_usages = uses.to_vec();
            let pem = params.signed_by(&key, &issuer).unwrap().pem();
            std::fs::write(folder.join(format!("{name}.pem")), &pem).unwrap();
            std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
            (pem, key.serialize_pem())
        };
        let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
        // The gateway greets the member that it is part of with this, too.
        issue("member", None, Some(address), &[server, client.clone()]);
        let named = issue("named", Some("rollcall"), None, std::slice::from_ref(&client));
        let client = issue("client", None, None, &[client]);
        std::fs::write(folder.join("ca.pem"), &pem).unwrap();
        Self { pem, client, named }
    }
}

/// Of no other test.
fn address() -> SocketAddrV4 {
    static LAST: AtomicU8 = AtomicU8::new(1);
    let [low, high, ..] = std::process::id().to_le_bytes();
    let ip = Ipv4Addr::new(127, 128 + (high & 63), low, LAST.fetch_add(1, Ordering::Relaxed));
    SocketAddrV4::new(ip, 2379)
}

/// A child that talks to an etcd.
pub(crate) struct Talking {
    pub(crate) supervisor: Supervisor,
    pub(crate) store: Store,
}

impl Talking {
    pub(crate) fn to(settings: Settings) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test starts a process as another user: run it as root"
        );
        let spec = Spec { program: PathBuf::from(env!("CARGO_BIN_EXE_rollcall")), user: USER.to_owned() };
        let supervisor = Supervisor::start(&spec).unwrap();
        let store = supervisor.store();
        store.follow(Some(settings));
        Self { supervisor, store }
    }

    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, String> {
        self.store.ask(&request, LONG).await
    }

    pub(crate) async fn done(&self, request: Request) {
        assert_eq!(self.ask(request).await, Ok(Reply::Done));
    }

    pub(crate) async fn pieces(&self, request: Request) -> Vec<Vec<u8>> {
        match self.ask(request).await {
            Ok(Reply::Pieces(pieces)) => pieces,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn list(&self) -> Listing {
        match self.ask(Request::List).await {
            Ok(Reply::Listing(listing)) => listing,
            other => panic!("{other:?}"),
        }
    }

    /// Asks again and again until there is an answer.
    pub(crate) async fn answers(&self) {
        for _ in 0..600 {
            if self.ask(Request::List).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd is not reached");
    }

    pub(crate) async fn news(&self) {
        tokio::time::timeout(LONG, self.store.news()).await.expect("news");
    }

    pub(crate) async fn pid(&self) -> u32 {
        let mut pid = self.supervisor.pid();
        let pid = tokio::time::timeout(LONG, pid.wait_for(Option::is_some)).await.expect("a child");
        (*pid.unwrap()).unwrap()
    }
}
