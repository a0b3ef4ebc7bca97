//! An etcd on one of the lab's servers: Debian's, of one member, with TLS and certificates of clients.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use crate::backend::{wait_for_port, write_private};
use crate::lab::Lab;
use crate::sys::{Namespace, Process, find_program, output};

/// See the module.
#[derive(Debug)]
pub struct Etcd {
    address: Ipv4Addr,
    namespace: Namespace,
    folder: PathBuf,
    process: Option<Process>,
}

impl Etcd {
    /// Starts one on the lab's first server, beside its web server.
    pub fn start(lab: &Lab) -> Result<Self> {
        let (_, address, namespace) = lab.servers.first().context("the lab has servers")?;
        let folder = lab.folder().join("etcd");
        fs::create_dir_all(&folder).context("cannot make etcd's folder")?;
        make_certificates(&folder, *address)?;
        let mut etcd = Self { address: *address, namespace: namespace.clone(), folder, process: None };
        etcd.go_on()?;
        Ok(etcd)
    }

    /// Starts it again, with all that it had.
    pub fn go_on(&mut self) -> Result<()> {
        let (client, peers) = (format!("https://{}:2379", self.address), "http://127.0.0.1:2380");
        let mut command = Command::new(find_program("etcd")?);
        command.arg("--data-dir").arg(self.folder.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]);
        command.args(["--initial-cluster", &format!("default={peers}"), "--client-cert-auth"]);
        for (option, file) in [("cert", "member.pem"), ("key", "member.key"), ("trusted-ca", "ca.pem")] {
            command.arg(format!("--{option}-file")).arg(self.folder.join(file));
        }
        let process = Process::start("etcd", &self.namespace, &mut command, &self.folder.join("log"))?;
        wait_for_port(&self.namespace, self.address, 2379, &process)?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it; what it had is on its disk.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// The table that has nodes keep their generations in it, too.
    pub fn table(&self) -> String {
        let file = |name: &str| self.folder.join(name);
        format!(
            "[config]\nstore = \"etcd\"\nendpoints = [\"https://{}:2379\"]\nprefix = \"/lab/dmz\"\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n\n",
            self.address,
            file("ca.pem"),
            file("nodes.pem"),
            file("nodes.key"),
        )
    }

    /// All its keys.
    pub fn keys(&self) -> Result<Vec<String>> {
        let mut command = self.namespace.command(find_program("etcdctl")?);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &format!("https://{}:2379", self.address)]);
        for (option, file) in [("cert", "nodes.pem"), ("key", "nodes.key"), ("cacert", "ca.pem")] {
            command.arg(format!("--{option}")).arg(self.folder.join(file));
        }
        command.args(["get", "--keys-only", "--prefix", "/"]);
        let printed = output(&mut command, None)?;
        Ok(printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }
}

fn make_certificates(folder: &Path, address: Ipv4Addr) -> Result<()> {
    let mut ca_params = CertificateParams::new(Vec::new())?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate()?;
    let ca = ca_params.self_signed(&ca_key)?;
    fs::write(folder.join("ca.pem"), ca.pem()).context("cannot write etcd's CA")?;
    let issuer = Issuer::new(ca_params, ca_key);
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    let member = vec![SanType::IpAddress(address.into())];
    // Its gateway greets the member itself with the member's own.
    for (name, names, uses) in
        [("member", member, vec![server, client.clone()]), ("nodes", Vec::new(), vec![client])]
    {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        (params.subject_alt_names, params.extended_key_usages) = (names, uses);
        let leaf = params.signed_by(&key, &issuer)?;
        fs::write(folder.join(format!("{name}.pem")), leaf.pem()).context("cannot write a certificate")?;
        write_private(&folder.join(format!("{name}.key")), &key.serialize_pem())?;
    }
    Ok(())
}
