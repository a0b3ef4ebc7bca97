//! An Exchange whose servers log connections on, published by one node of the lab; and the clients that log on there.
//!
//! The servers are stand-ins. Of some only the authentication is real: `acceptor` (NTLM, and Extended Protection) and `kerberos`
//! (apache with mod_auth_gssapi, and the KDC). `standin` speaks Exchange's protocols. Its clients are `crowd`, `rpc`, curl, and the
//! programs of tests/python. `haproxy` and `nginx` publish the same servers in the node's place. Asserts nothing: tests/tests/exchange does.

pub mod acceptor;
pub mod background;
pub mod crowd;
pub mod front;
pub mod haproxy;
pub mod kerberos;
pub mod nginx;
pub mod rpc;
pub mod standin;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use self::acceptor::Acceptor;
use self::standin::Standin;
use crate::lab::{PUBLIC, PUBLIC_NAME, Plan, SERVERS};
use crate::node::{Cluster, workspace_root};
use crate::sys::{Namespace, allow_many_files, find_program, output};

/// What a farm says that shares no connections.
const OWN: &str = "reuse = \"own\"";

/// The domain of all users.
pub const DOMAIN: &str = "LAB";

/// A user of the domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// `user000` and so on.
    pub name: String,
    /// Its own.
    pub password: String,
}

/// The lab, with servers in place of the usual ones, which know no users.
#[derive(Debug)]
pub struct Exchange {
    /// Those that run, at most one a server; dropped before the network.
    pub acceptors: Vec<Acceptor>,
    /// The same of servers that speak more.
    pub standins: Vec<Standin>,
    /// The node, its configuration and the network.
    pub cluster: Cluster,
    /// Who there is.
    pub users: Vec<User>,
    /// The same as a file, in the format of `NTLM_USER_FILE`.
    pub accounts: PathBuf,
}

impl Exchange {
    /// Raises the lab with one node and so many users; neither a server nor the agent runs yet.
    pub fn raise(users: usize) -> Result<Self> {
        Self::raise_on(&Plan::light(1), users)
    }

    /// The same on the lab of that plan.
    pub fn raise_on(plan: &Plan, users: usize) -> Result<Self> {
        allow_many_files()?;
        let mut cluster = Cluster::raise(plan)?;
        cluster.backends.clear();
        // A killed nginx leaves its workers, which would go on serving.
        cluster.lab.servers.iter().for_each(|(.., namespace)| namespace.kill_all());
        // A server that ends or returns is noticed at once. The stand-ins know no other test than OWA's.
        let health = "health = { path = \"/owa/healthcheck.htm\", interval = \"200ms\" }";
        cluster.rewrite("[exchange]\n", &format!("[exchange]\n{health}\n"))?;
        let user =
            |number| User { name: format!("user{number:03}"), password: format!("Pass-{number:03}-word") };
        let users: Vec<_> = (0..users).map(user).collect();
        let accounts = cluster.lab.folder().join("accounts");
        let mut text = String::new();
        for User { name, password } in &users {
            writeln!(text, "{DOMAIN}:{name}:{password}")?;
        }
        fs::write(&accounts, text).context("cannot write the accounts")?;
        Ok(Self { acceptors: Vec::new(), standins: Vec::new(), cluster, users, accounts })
    }

    /// The same with an acceptor on every server, and the agent serving.
    pub fn start(users: usize) -> Result<Self> {
        let mut exchange = Self::raise(users)?;
        exchange.start_acceptors(acceptor::Demand::Logon)?;
        exchange.cluster.serve()?;
        Ok(exchange)
    }

    /// The lab with one node, which serves, and a stand-in on each of `servers`. Outlook Anywhere is published.
    pub fn of_standins(servers: &[&str], users: usize) -> Result<Self> {
        let mut exchange = Self::raise(users)?;
        exchange.start_standins(servers)?;
        exchange.cluster.serve()?;
        Ok(exchange)
    }

    /// Starts a stand-in on each of `servers`, and publishes Outlook Anywhere.
    pub fn start_standins(&mut self, servers: &[&str]) -> Result<()> {
        self.cluster.rewrite("[exchange]\n", "[exchange]\nrpc = true\n")?;
        for server in servers {
            self.standins.push(Standin::start(self, server)?);
        }
        Ok(())
    }

    /// Has the node share its server connections, which `[exchange]` itself refuses: what that stands for is written out.
    pub fn share_connections(&self) -> Result<()> {
        for node in &self.cluster.nodes {
            let config = &node.config;
            let told = node.rollcall(&["check", "--expand", &config.to_string_lossy()])?;
            let whole = String::from_utf8_lossy(&told.stdout).into_owned();
            ensure!(whole.contains(OWN), "rollcall check --expand printed {told:?}");
            fs::write(config, whole.replace(OWN, "reuse = \"shared\""))
                .context("cannot write the configuration")?;
        }
        Ok(())
    }

    /// Starts an acceptor on every server, with the site's own certificate.
    pub fn start_acceptors(&mut self, demand: acceptor::Demand) -> Result<()> {
        let certificates = self.cluster.certificates.clone();
        for (server, _) in SERVERS {
            self.acceptors.push(Acceptor::start(self, server, server, &certificates, demand)?);
        }
        Ok(())
    }

    /// The program `name` of tests/python as a client on the internet, told where and what the site is.
    pub fn client(&self, name: &str) -> Result<Command> {
        let mut command = python(&self.cluster.lab.client, name)?;
        command.args(["--address", &PUBLIC.to_string(), "--name", PUBLIC_NAME]);
        command.arg("--ca").arg(self.trust()).arg("--accounts").arg(&self.accounts);
        Ok(command)
    }

    /// curl as a client on the internet, which finds the site's name there. Its URL is the caller's.
    pub fn curl(&self) -> Result<Command> {
        let mut command = self.cluster.lab.client.command(find_program("curl")?);
        command.args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--resolve",
            &format!("{PUBLIC_NAME}:443:{PUBLIC}"),
        ]);
        command.arg("--cacert").arg(self.trust());
        Ok(command)
    }

    /// The certificates that clients trust, as a PEM file: the chain that the site presents has its CA.
    pub fn trust(&self) -> &Path {
        &self.cluster.certificates.certificate
    }

    /// Where the server's machine is.
    pub fn server(&self, name: &str) -> Result<&Namespace> {
        let found = self.cluster.lab.servers.iter().find(|(server, ..)| *server == name);
        found.map(|(.., namespace)| namespace).with_context(|| format!("the lab has no server {name}"))
    }

    /// Tears everything down and gives what is left all the same.
    pub fn tear_down(self) -> Vec<String> {
        drop((self.acceptors, self.standins));
        self.cluster.tear_down()
    }
}

/// Runs a client to its end, and reads the JSON that it prints.
pub fn told<T: DeserializeOwned>(client: &mut Command) -> Result<T> {
    let text = output(client, None)?;
    serde_json::from_str(&text).with_context(|| format!("{client:?} printed {text}"))
}

/// The program `name` of tests/python, to be started in `namespace` by the environment that the set-up makes.
fn python(namespace: &Namespace, name: &str) -> Result<Command> {
    let root = workspace_root();
    let python = root.join("target/python/bin/python");
    ensure!(python.is_file(), "{} is missing; hint: cargo xtask setup", python.display());
    let mut command = namespace.command(python);
    // Or a test run as root would leave files in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(root.join("tests/python").join(name));
    Ok(command)
}
