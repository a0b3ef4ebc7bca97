//! Kerberos for real: a realm with its KDC on the client's machine (only clients talk to it), and apache with mod_auth_gssapi, which
//! binds a logon to its connection as IIS does.
//!
//! Apache's answers name the user, the connection by the server and its port on the other side, and the request's nonce; and whether the request
//! carried Authorization.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Exchange, User};
use crate::backend::wait_for_port;
use crate::lab::{PUBLIC_NAME, SERVERS};
use crate::sys::{Namespace, Process, find_program, output};

/// The realm.
pub const REALM: &str = "LAB.TEST";

/// A realm at work.
#[derive(Debug)]
pub struct Realm {
    _kdc: Process,
    folder: PathBuf,
}

impl Realm {
    /// Makes a realm of the exchange's users and its service, and starts the KDC.
    pub fn start(exchange: &Exchange) -> Result<Self> {
        let folder = exchange.cluster.lab.folder().join("kerberos");
        fs::create_dir(&folder).context("cannot make the realm's folder")?;
        fs::write(folder.join("krb5.conf"), client_configuration()).context("cannot write krb5.conf")?;
        fs::write(folder.join("kdc.conf"), kdc_configuration(&folder)).context("cannot write kdc.conf")?;
        let namespace = &exchange.cluster.lab.client;
        let in_realm = |program: &str| -> Result<Command> {
            Ok(with_files(namespace.command(find_program(program)?), &folder))
        };
        output(in_realm("kdb5_util")?.args(["create", "-s", "-P", "of the lab"]), None)?;
        output(&mut in_realm("kadmin.local")?, Some(&principals(&exchange.users, &folder)?))?;
        // Apache's workers, which are nobody, read it.
        fs::set_permissions(folder.join(KEYTAB), fs::Permissions::from_mode(0o644))
            .context("the service has no keys")?;
        let mut kdc = with_files(Command::new(find_program("krb5kdc")?), &folder);
        let kdc = Process::start("the KDC", namespace, kdc.arg("-n"), &folder.join("kdc.log"))?;
        wait_for_port(namespace, Ipv4Addr::LOCALHOST, 88, &kdc)?;
        Ok(Self { _kdc: kdc, folder })
    }

    /// Starts apache on every server.
    pub fn start_servers(&self, exchange: &Exchange) -> Result<Vec<Process>> {
        let servers = SERVERS.iter();
        servers.map(|(server, _)| self.start_apache(exchange, server, exchange.server(server)?)).collect()
    }

    /// curl as a client that holds the user's ticket, and sends it with its first request.
    pub fn curl(&self, exchange: &Exchange, user: &User) -> Result<Command> {
        let tickets = self.folder.join(format!("tickets-{}", user.name));
        let mut kinit = exchange.cluster.lab.client.command(find_program("kinit")?);
        let kinit = kinit.env("KRB5_CONFIG", self.folder.join("krb5.conf")).arg("-c").arg(&tickets);
        output(kinit.arg(&user.name), Some(&format!("{}\n", user.password)))?;
        let mut curl = exchange.curl()?;
        curl.env("KRB5_CONFIG", self.folder.join("krb5.conf")).env("KRB5CCNAME", &tickets);
        curl.args(["--negotiate", "--user", ":"]);
        Ok(curl)
    }

    fn start_apache(&self, exchange: &Exchange, server: &str, namespace: &Namespace) -> Result<Process> {
        let folder = exchange.cluster.lab.folder().join(format!("apache-{server}"));
        let health = folder.join("www/owa");
        let answers = folder.join("www/EWS");
        for made in [&health, &answers] {
            fs::create_dir_all(made).context("cannot make apache's folder")?;
        }
        fs::write(health.join("healthcheck.htm"), "200 OK<br/>").context("cannot write apache's files")?;
        fs::write(answers.join("echo"), "echo\n").context("cannot write apache's files")?;
        let file = folder.join("apache.conf");
        let text = apache_configuration(exchange, server, &folder, &self.folder.join(KEYTAB));
        fs::write(&file, text).context("cannot write apache.conf")?;
        let mut command = with_files(Command::new(find_program("apache2")?), &self.folder);
        command.args(["-D", "FOREGROUND", "-f"]).arg(&file);
        let log = folder.join("error.log");
        let process = Process::start(&format!("apache on {server}"), namespace, &mut command, &log)?;
        wait_for_port(namespace, Ipv4Addr::LOCALHOST, 443, &process)?;
        Ok(process)
    }
}

/// `command`, told of the realm's files in place of the machine's.
fn with_files(mut command: Command, folder: &Path) -> Command {
    command.env("KRB5_CONFIG", folder.join("krb5.conf")).env("KRB5_KDC_PROFILE", folder.join("kdc.conf"));
    command
}

fn client_configuration() -> String {
    format!(
        "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_lookup_realm = false\ndns_canonicalize_hostname = false\nrdns = false\n[realms]\n{REALM} = {{\nkdc = 127.0.0.1\n}}\n[domain_realm]\n{PUBLIC_NAME} = {REALM}\n"
    )
}

fn kdc_configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[realms]\n{REALM} = {{\ndatabase_name = {folder}/principal\nkey_stash_file = {folder}/stash\nacl_file = {folder}/acl\nkdc_listen = 127.0.0.1:88\nkdc_tcp_listen = 127.0.0.1:88\n}}\n[logging]\nkdc = STDERR\n"
    )
}

/// kadmin's commands for the users and the service.
fn principals(users: &[User], folder: &Path) -> Result<String> {
    let mut commands = String::new();
    for User { name, password } in users {
        writeln!(commands, "add_principal -pw {password} {name}")?;
    }
    let keytab = folder.join(KEYTAB);
    writeln!(commands, "add_principal -randkey HTTP/{PUBLIC_NAME}")?;
    writeln!(commands, "ktadd -k {} HTTP/{PUBLIC_NAME}", keytab.display())?;
    Ok(commands)
}

fn apache_configuration(exchange: &Exchange, server: &str, folder: &Path, keytab: &Path) -> String {
    let mut text = String::new();
    for module in
        ["mpm_event", "authn_core", "authz_core", "authz_user", "auth_gssapi", "ssl", "headers", "mime"]
    {
        text += &format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n");
    }
    let certificates = &exchange.cluster.certificates;
    text + &format!(
        r#"
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ErrorLog /dev/stderr
ServerName {PUBLIC_NAME}
User nobody
Group nogroup
TypesConfig /dev/null
DocumentRoot {folder}/www
Listen 443
KeepAlive On
KeepAliveTimeout 120
MaxKeepAliveRequests 0
SSLEngine On
SSLCertificateFile {certificate}
SSLCertificateKeyFile {key}
<Location /EWS>
    AuthType GSSAPI
    AuthName {REALM}
    GssapiAllowedMech krb5
    GssapiCredStore keytab:{keytab}
    GssapiLocalName On
    GssapiConnectionBound On
    GssapiSignalPersistentAuth On
    Require valid-user
    Header always set X-User "expr=%{{REMOTE_USER}}"
    Header always set X-Connection "expr={server}-%{{REMOTE_PORT}}"
    Header always set X-Nonce "expr=%{{req:X-Nonce}}"
    Header always set X-Carried-Authorization yes "expr=-n %{{req:Authorization}}"
</Location>
"#,
        folder = folder.display(),
        certificate = certificates.certificate.display(),
        key = certificates.key.display(),
        keytab = keytab.display(),
    )
}

/// The service's keys, in the realm's folder.
const KEYTAB: &str = "http.keytab";
