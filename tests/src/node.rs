//! Nodes with agents, and the cluster that they make: what an operator does (files, start, stop, drain, status), and what
//! befalls machines (kill, hang, cable, power). Decides nothing about outcomes; tests, demo and benches do.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lb_common::address::Address;
use lb_common::flow::bucket_of;
use lb_common::table::{Affinity, BUCKETS, Bucket, Rule};
use lb_user::clock::Time;
use lb_user::config;
use lb_user::config::secret::ClusterSecret;
use lb_user::control::api::{EventRecord, Status, TableStatus};
use lb_user::dataplane::{self, Plan as DataPlan};
use rustix::process::Signal;
use serde::de::DeserializeOwned;

use crate::backend::{Backend, Certificates, write_private};
use crate::capture::{Capture, Flow, Gone};
use crate::client::{Connection, Https};
use crate::lab::{CLUSTER_IP, CLUSTER_IP6, GATEWAY, Lab, NODE_DMZ, PUBLIC_NAME, Place, Plan};
use crate::prober::Attempt;
use crate::sys::{Process, run, signal, tail};

/// How long a wait lasts before it is an error. Generous: this is no measurement.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The numeric user of the proxies; the lab needs no account for it.
const PROXY_USER: &str = "64750";

/// The same of the children that talk to other nodes.
const PEER_USER: &str = "64751";

/// A lab with servers, and nodes with their configuration written.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of their priorities. Dropped, and so ended, before the network.
    pub nodes: Vec<Node>,
    /// The servers.
    pub backends: Vec<Backend>,
    /// The site's.
    pub certificates: Certificates,
    /// The key of the flow hash.
    pub seed: [u64; 2],
    /// The network.
    pub lab: Lab,
}

impl Cluster {
    /// Raises the lab, starts the servers and writes the nodes' files; no agent runs yet.
    pub fn raise(plan: &Plan) -> Result<Self> {
        let lab = Lab::raise(plan)?;
        let folder = lab.folder();
        let certificates = Certificates::make(&folder)?;
        let backends = Backend::start_all(&lab, &certificates)?;
        let secret = folder.join("cluster.secret");
        write_private(&secret, &random_secret()?)?;
        fs::write(folder.join("cluster.toml"), cluster_file(&lab, &certificates))
            .context("cannot write cluster.toml")?;
        let seed = ClusterSecret::read(&secret)?.hash_seed();
        let nodes = lab.places.iter();
        let nodes =
            nodes.map(|place| Node::prepare(place.clone(), &folder, plan.xdp)).collect::<Result<_>>()?;
        Ok(Self { nodes, backends, certificates, seed, lab })
    }

    /// A cluster of `nodes` nodes that serves.
    pub fn start(nodes: u8) -> Result<Self> {
        Self::start_on(&Plan::nodes(nodes))
    }

    /// The same, on the lab of that plan.
    pub fn start_on(plan: &Plan) -> Result<Self> {
        let mut cluster = Self::raise(plan)?;
        cluster.serve()?;
        Ok(cluster)
    }

    /// Starts the agents and waits until they share everything, with nothing on its way.
    pub fn serve(&mut self) -> Result<()> {
        self.start_agents()?;
        self.settle()
    }

    /// Has every node's cluster.toml say something else.
    pub fn rewrite(&self, from: &str, to: &str) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.rewrite("cluster.toml", from, to))
    }

    /// Has the nodes share their configuration by themselves, which is that of `cluster.toml`, and serve: the first makes the cluster,
    /// the others join it one after the other while it serves, and then start.
    pub fn share(&mut self) -> Result<()> {
        self.enrol()?;
        self.serve()
    }

    /// The same, but the others are not started.
    pub fn enrol(&mut self) -> Result<()> {
        self.found()?;
        let (first, others) = self.nodes.split_first_mut().context("a cluster has nodes")?;
        for other in others {
            let token = first.token()?;
            other.become_one(&["join", &first.place.address.to_string(), "--token", &token])?;
        }
        Ok(())
    }

    /// Has the first node make a cluster of itself, with what `cluster.toml` says, and run.
    pub fn found(&mut self) -> Result<()> {
        let file = self.lab.folder().join("first.toml");
        let whole =
            fs::read_to_string(self.lab.folder().join("cluster.toml")).context("cannot read cluster.toml")?;
        fs::write(&file, with_first_node_alone(&whole)).context("cannot write first.toml")?;
        let file = file.to_string_lossy().into_owned();
        let first = self.nodes.first_mut().context("a cluster has nodes")?;
        first.become_one(&["init", "--from", &file])?;
        first.start()?;
        first.wait_until("it answers", |_| true).map(drop)
    }

    /// Starts every agent that does not run.
    pub fn start_agents(&mut self) -> Result<()> {
        let mut idle = self.nodes.iter_mut().filter(|node| node.agent.is_none());
        idle.try_for_each(Node::start)
    }

    /// Waits until the running agents share all buckets: each accepts new connections on one node and no other. Where older
    /// connections live elsewhere, buckets may be arriving and departing for as long as these last.
    pub fn converge(&mut self) -> Result<()> {
        self.wait_until_shared(Stage::Accepting)
    }

    /// The same, and until nothing is on its way any more.
    pub fn settle(&mut self) -> Result<()> {
        self.wait_until_shared(Stage::Settled)
    }

    fn wait_until_shared(&mut self, stage: Stage) -> Result<()> {
        let deadline = Time::now() + PATIENCE;
        loop {
            let missing = match self.missing(stage) {
                Ok(None) => return Ok(()),
                Ok(Some(missing)) => missing,
                Err(error) => format!("{error:#}"),
            };
            if let Some(ended) = self.nodes.iter_mut().find_map(Node::unexpected_end) {
                bail!("{ended}");
            }
            if Time::now() > deadline {
                let logs: Vec<_> = self.nodes.iter().map(Node::log_tail).collect();
                bail!("the cluster did not converge within {PATIENCE:?}: {missing}\n{}", logs.join("\n"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is missing until the running agents have got as far as `stage`; `None`: nothing.
    fn missing(&self, stage: Stage) -> Result<Option<String>> {
        let mut owners = vec![0_u32; BUCKETS];
        for node in self.nodes.iter().filter(|node| node.agent.is_some()) {
            let status = node.status()?;
            let proxy_ready = status.proxy.as_ref().is_none_or(|proxy| proxy.ready);
            let mut services = status.tables.iter().filter_map(|table| table.service.as_ref());
            if services.any(|service| service.works.is_none()) {
                return Ok(Some(format!("{} does not know yet whether its services work", node.name())));
            }
            let states = buckets(&status)?;
            let accepting = states.chars().filter(|state| "ma".contains(*state));
            // Where one node serves, the others hold nothing.
            let has_share = table_of(&status, "443")?.filtering == "single" || accepting.count() > 0;
            if !status.lease || !proxy_ready || !has_share {
                return Ok(Some(summary(&status)));
            }
            let unsettled = states.chars().filter(|state| "ad".contains(*state)).count();
            if stage == Stage::Settled && unsettled > 0 {
                return Ok(Some(format!(
                    "{} has {unsettled} buckets on their way: {}",
                    node.name(),
                    summary(&status)
                )));
            }
            for (owner, state) in owners.iter_mut().zip(states.chars()) {
                *owner += u32::from("ma".contains(state));
            }
        }
        let wrong = owners.iter().filter(|&&count| count != 1).count();
        Ok((wrong > 0).then(|| format!("{wrong} buckets are not accepted by exactly one node")))
    }

    /// The node called `name`.
    pub fn node(&mut self, name: &str) -> &mut Node {
        let found = self.nodes.iter_mut().find(|node| node.name() == name);
        found.expect("tests name nodes that their plan has")
    }

    /// A browser on the internet.
    pub fn https(&self) -> Result<Https> {
        Ok(Https::new(&self.lab, self.certificates.client()?))
    }

    /// The published site over each of the cluster's families of addresses: of IPv4 through the NAT, of IPv6 without.
    pub fn https_of_all(&self) -> Result<Vec<Https>> {
        let tls = self.certificates.client()?;
        let v6 = self.lab.plan.ipv6.then(|| Https::new6(&self.lab, Arc::clone(&tls)));
        Ok([Https::new(&self.lab, tls)].into_iter().chain(v6).collect())
    }

    /// A connection to the published site that a certain node answers, which `capture` has to have seen.
    pub fn connect_through(&self, https: &Https, capture: &Capture, name: &str) -> Result<Connection> {
        let mac = self.place(name)?.mac;
        for _ in 0..200 {
            let connection = https.connect()?;
            let flow = Flow::https((https.source, connection.port));
            if capture.answered_by(flow) == Some(mac) {
                return Ok(connection);
            }
        }
        bail!("none of 200 connections is answered by {name}");
    }

    /// Pulls a node's cable out of the DMZ's switch, and when.
    pub fn pull_cable(&self, name: &str) -> Result<Gone> {
        let place = self.place(name)?;
        let from = Time::now();
        self.lab.pull_cable(place)?;
        Ok(Gone { mac: place.mac, from, by: Time::now(), until: None })
    }

    /// Puts the cable back, and notes when.
    pub fn plug_cable(&self, name: &str, gone: &mut Gone) -> Result<()> {
        gone.until = Some(Time::now());
        self.lab.plug_cable(self.place(name)?)
    }

    /// Takes a node's power, and when.
    pub fn power_off(&mut self, name: &str) -> Result<Gone> {
        let place = self.place(name)?.clone();
        let from = Time::now();
        self.lab.power_off(&place)?;
        let by = Time::now();
        let node = self.node(name);
        if let Some(mut agent) = node.agent.take() {
            agent.kill();
        }
        // What was in memory is gone.
        let _ = fs::remove_dir_all(&node.run_dir);
        Ok(Gone { mac: place.mac, from, by, until: None })
    }

    /// Gives a node its power back; its agent is not started.
    pub fn power_on(&mut self, name: &str) -> Result<()> {
        let place = self.place(name)?.clone();
        self.lab.power_on(&place)?;
        self.node(name).make_run_dir()
    }

    /// Lets everything stand when this process ends.
    pub fn keep(&mut self) -> Result<()> {
        self.lab.keep()?;
        for agent in self.nodes.iter_mut().filter_map(|node| node.agent.as_mut()) {
            agent.keep();
        }
        for backend in &mut self.backends {
            backend.process.keep();
        }
        Ok(())
    }

    /// Tears everything down and gives what is left all the same.
    pub fn tear_down(self) -> Vec<String> {
        let Self { nodes, backends, lab, .. } = self;
        drop((nodes, backends));
        lab.tear_down()
    }

    /// Breaks a node on purpose: its XDP program goes on accepting new connections after the lease.
    pub fn switch_lease_check_off(&mut self, name: &str) -> Result<()> {
        let seed = self.seed;
        let node = self.node(name);
        let config = config::load(&node.config, None)?;
        let plan = DataPlan::new(&config, seed);
        let pins = PathBuf::from(node.status()?.interface.pins);
        node.place
            .namespace
            .enter(|| dataplane::replace_without_lease_check(&plan, NODE_DMZ, &pins))?
            .context("cannot replace the XDP program")
    }

    fn place(&self, name: &str) -> Result<&Place> {
        let place = self.lab.places.iter().find(|place| place.name == name);
        place.with_context(|| format!("the lab has no node {name}"))
    }
}

/// How far a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Each bucket is one node's for new connections.
    Accepting,
    /// And for all others, too: nothing is on its way.
    Settled,
}

/// A node: its machine is a namespace of the lab, its files are in the lab's folder.
#[derive(Debug)]
pub struct Node {
    /// Where it is in the network.
    pub place: Place,
    /// Its cluster.toml, with its node.toml beside it.
    pub config: PathBuf,
    /// Its agent's run_dir.
    pub run_dir: PathBuf,
    /// The program that its agent runs, from its next start on.
    pub program: PathBuf,
    /// The agent, while it is meant to run.
    pub agent: Option<Process>,
    /// It shares its configuration with the others by itself: `config` is not what it works with.
    shares: bool,
    log: PathBuf,
}

impl Node {
    fn prepare(place: Place, lab: &Path, xdp: &str) -> Result<Self> {
        let folder = lab.join(&place.name);
        fs::create_dir_all(&folder).context("cannot make a node's folder")?;
        let node = Self {
            config: folder.join("cluster.toml"),
            run_dir: folder.join("run"),
            log: folder.join("rollcall.log"),
            program: rollcall_path(),
            agent: None,
            shares: false,
            place,
        };
        fs::copy(lab.join("cluster.toml"), &node.config).context("cannot write cluster.toml")?;
        let secret = lab.join("cluster.secret");
        let text = format!(
            "name = {:?}\ninterface = {NODE_DMZ:?}\nsecret_file = {secret:?}\nproxy_user = {PROXY_USER:?}\nxdp = {xdp:?}\nrun_dir = {:?}\nstate_dir = {:?}\n",
            node.name(),
            node.run_dir,
            folder.join("state"),
        );
        fs::write(folder.join("node.toml"), text).context("cannot write node.toml")?;
        node.make_run_dir()?;
        Ok(node)
    }

    /// `arrN`.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Its agent's log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The requests in its access log, as far as `L` has them; a line is there once its request is over.
    pub fn requests<L: DeserializeOwned>(&self) -> Result<Vec<L>> {
        let text = fs::read_to_string(&self.log)?;
        let requests = text.lines().filter(|line| line.starts_with('{') && line.contains("\"method\":"));
        requests.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Has a file of its, such as node.toml, say something else.
    pub fn rewrite(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.config.with_file_name(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(text.contains(from), "{} does not say {from:?}:\n{text}", path.display());
        fs::write(&path, text.replace(from, to)).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Starts its agent.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts its agent with further environment variables.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(existing(&self.program)?);
        command.arg("run").args(self.origin()).envs(environment.iter().copied());
        let what = format!("the agent of {}", self.name());
        self.agent = Some(Process::start(&what, &self.place.namespace, &mut command, &self.log)?);
        Ok(())
    }

    /// What tells a command where this node's configuration is.
    fn origin(&self) -> [OsString; 2] {
        if self.shares {
            ["--node-file".into(), self.own_folder().join("node.toml").into()]
        } else {
            ["--config".into(), self.config.clone().into()]
        }
    }

    /// Where its own file and keys are, once it shares its configuration.
    pub fn own_folder(&self) -> PathBuf {
        self.config.with_file_name("own")
    }

    /// Where its agent keeps what outlives it.
    pub fn state_folder(&self) -> PathBuf {
        self.config.with_file_name("state")
    }

    /// Its machine gets a new disk: nothing that made it a node is there any more. Its agent must not run.
    pub fn wipe(&mut self) -> Result<()> {
        for folder in [self.own_folder(), self.state_folder()] {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        self.shares = false;
        Ok(())
    }

    /// Has this host, which has nothing yet, become a node that shares its configuration, by `rollcall init` or `join` with these
    /// arguments; an error is what that said.
    pub fn become_one(&mut self, command: &[&str]) -> Result<String> {
        let folder = self.own_folder();
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let (dir, state, run) = (path(&folder), path(&self.state_folder()), path(&self.run_dir));
        let host = [
            ["--name", self.name()],
            ["--interface", NODE_DMZ],
            ["--proxy-user", PROXY_USER],
            ["--peer-user", PEER_USER],
            ["--dir", &dir],
            ["--state-dir", &state],
            ["--run-dir", &run],
        ];
        let Output { status, stdout, stderr } = self.rollcall(&[command, host.as_flattened()].concat())?;
        ensure!(status.success(), "{}", String::from_utf8_lossy(&stderr).trim_end());
        self.shares = true;
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// `rollcall ARGS` on this node, to its end, whatever it says.
    pub fn rollcall(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.place.namespace.command(rollcall()?);
        command.args(args).output().with_context(|| format!("could not start {command:?}"))
    }

    /// The same for a command that may not end by itself: after `patience` that is an error, and it is killed. It is started
    /// by the command `around`, such as `prlimit --nofile=256`, where there is one.
    pub fn rollcall_under(&self, around: &[&str], args: &[&str], patience: Duration) -> Result<Output> {
        let outputs = self.config.with_file_name("stdout");
        let errors = self.config.with_file_name("stderr");
        let binary = rollcall()?.into_os_string();
        let mut words = around.iter().map(OsString::from).chain([binary]);
        let mut command = self.place.namespace.command(words.next().unwrap_or_default());
        command.args(words).args(args).stdin(Stdio::null());
        command.stdout(fs::File::create(&outputs)?).stderr(fs::File::create(&errors)?);
        let mut child = command.spawn().with_context(|| format!("could not start {command:?}"))?;
        let deadline = Time::now() + patience;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Time::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("`rollcall {}` did not end within {patience:?}\n{}", args.join(" "), tail(&errors));
            }
            thread::sleep(Duration::from_millis(10));
        };
        Ok(Output { status, stdout: fs::read(&outputs)?, stderr: fs::read(&errors)? })
    }

    /// `rollcall COMMAND --run-dir ..` on this node; a failure is an error with what it said.
    pub fn control(&self, args: &[&str]) -> Result<String> {
        let run_dir = self.run_dir.to_string_lossy().into_owned();
        let args: Vec<_> = args.iter().copied().chain(["--run-dir", &run_dir]).collect();
        let Output { status, stdout, stderr } = self.rollcall(&args)?;
        ensure!(
            status.success(),
            "`rollcall {}` on {} failed: {status}\n{}",
            args.join(" "),
            self.name(),
            String::from_utf8_lossy(&stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// A join token of this node.
    pub fn token(&self) -> Result<String> {
        let printed = self.control(&["token"])?;
        let token = printed.trim().rsplit(' ').next().unwrap_or_default();
        Ok(token.to_owned())
    }

    /// How things are, by `rollcall status --json`.
    pub fn status(&self) -> Result<Status> {
        let text = self.control(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("`rollcall status --json` printed {text}"))
    }

    /// All that its agent has noted, by `rollcall events --json`, oldest first.
    pub fn events(&self) -> Result<Vec<EventRecord>> {
        let text = self.control(&["events", "--json"])?;
        let records = text.lines().map(serde_json::from_str);
        records.collect::<Result<_, _>>().with_context(|| format!("`rollcall events --json` printed {text}"))
    }

    /// The number of its latest event, for [`Node::events_since`]; 0: it has noted none.
    pub fn latest_event(&self) -> Result<u64> {
        Ok(self.events()?.last().map_or(0, |event| event.seq))
    }

    /// What it has noted after that one.
    pub fn events_since(&self, latest: u64) -> Result<Vec<EventRecord>> {
        Ok(self.events()?.into_iter().filter(|event| event.seq > latest).collect())
    }

    /// Waits until `ready` says so of the status; the error says what was waited for, with the last status and log.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut(&Status) -> bool) -> Result<Status> {
        let deadline = Time::now() + PATIENCE;
        loop {
            let status = self.status();
            if let Ok(status) = &status
                && ready(status)
            {
                return Ok(status.clone());
            }
            if let Some(ended) = self.unexpected_end() {
                bail!("while waiting until {what}: {ended}");
            }
            if Time::now() > deadline {
                let last = status.map_or_else(|error| format!("{error:#}"), |status| summary(&status));
                bail!(
                    "{} did not get so far within {PATIENCE:?} that {what}\nlast: {last}\n{}",
                    self.name(),
                    self.log_tail()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until its agent has noted an event that is `wanted`, and gives the first.
    pub fn wait_for_event(
        &mut self,
        what: &str,
        wanted: impl Fn(&EventRecord) -> bool,
    ) -> Result<EventRecord> {
        let deadline = Time::now() + PATIENCE;
        loop {
            let events = self.events();
            let found = events.as_ref().ok().and_then(|events| events.iter().find(|event| wanted(event)));
            if let Some(event) = found {
                return Ok(event.clone());
            }
            if let Some(ended) = self.unexpected_end() {
                bail!("while waiting for the event {what}: {ended}");
            }
            if Time::now() > deadline {
                let told = events.map(|events| events.iter().map(EventRecord::sentence).collect::<Vec<_>>());
                bail!("{} noted no event {what} within {PATIENCE:?}: {told:#?}", self.name());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the agent, and only it, by SIGKILL.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Kills the proxy by SIGKILL.
    pub fn kill_proxy(&self) -> Result<()> {
        let status = self.status()?;
        let pid = status.proxy.and_then(|proxy| proxy.pid);
        let pid = pid.with_context(|| format!("{} has no proxy to kill", self.name()))?;
        signal(pid, Signal::KILL);
        Ok(())
    }

    /// Stops the agent's process as a debugger or a full memory would, until [`Node::unpause_agent`].
    pub fn pause_agent(&self) {
        if let Some(agent) = &self.agent {
            agent.signal(Signal::STOP);
        }
    }

    /// Lets it go on.
    pub fn unpause_agent(&self) {
        if let Some(agent) = &self.agent {
            agent.signal(Signal::CONT);
        }
    }

    /// Ends the agent in the orderly way (SIGTERM) and waits for it.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let agent = self.agent.take();
        let mut agent = agent.with_context(|| format!("{} has no running agent", self.name()))?;
        agent.terminate(PATIENCE)
    }

    /// Waits for the agent's end, which it comes to by itself.
    pub fn end(&mut self) -> Result<ExitStatus> {
        let agent = self.agent.take();
        let mut agent = agent.with_context(|| format!("{} has no running agent", self.name()))?;
        agent.wait(PATIENCE).with_context(|| self.log_tail())
    }

    /// Hands this node's share to the others.
    pub fn drain(&self) -> Result<()> {
        self.control(&["drain"]).map(drop)
    }

    /// Takes a share again.
    pub fn resume(&self) -> Result<()> {
        self.control(&["resume"]).map(drop)
    }

    /// Removes what a killed agent left.
    pub fn cleanup(&self) -> Result<()> {
        let origin = self.origin().map(|word| word.to_string_lossy().into_owned());
        let output = self.rollcall(&["cleanup", &origin[0], &origin[1]])?;
        ensure!(
            output.status.success(),
            "`rollcall cleanup` on {} failed: {}\n{}",
            self.name(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(())
    }

    /// Which buckets of port 443's this node accepts new connections of.
    pub fn holds(&self) -> Result<Held> {
        self.holds_of("443")
    }

    /// The same of another port's.
    pub fn holds_of(&self, port: &str) -> Result<Held> {
        let status = self.status()?;
        let states = &table_of(&status, port)?.states;
        Ok(Held(states.chars().map(|state| "ma".contains(state)).collect()))
    }

    /// The end of the agent's log.
    pub fn log_tail(&self) -> String {
        format!("{}:\n{}", self.name(), tail(&self.log))
    }

    /// All that an agent may change on its host: addresses, links with their programs, filters, sysctls, pins, files,
    /// processes; a line each. Two calls are equal where nothing was left behind.
    pub fn footprint(&self) -> Result<BTreeSet<String>> {
        let namespace = &self.place.namespace;
        let mut lines = BTreeSet::new();
        for commands in ["-o addr show", "-o maddr show", "rule show", "route show table all"] {
            let mut ip = Command::new("ip");
            ip.args(["-n", namespace.name()]).args(commands.split(' '));
            let text = crate::sys::output(&mut ip, None)?;
            lines.extend(text.lines().map(|line| format!("{commands}: {}", line.trim())));
        }
        let links = run("ip", ["-n", namespace.name(), "-o", "-d", "link", "show"])?;
        lines.extend(links.lines().map(|line| format!("link: {}", without_ids(line))));
        let sysctls = namespace.enter(interface_sysctls)?;
        lines.extend(sysctls);
        let prefix = format!("{}-", namespace.inode()?);
        let pins = fs::read_dir("/sys/fs/bpf/rollcall").into_iter().flatten().flatten();
        let pins = pins.map(|entry| entry.file_name().to_string_lossy().into_owned());
        lines.extend(pins.filter(|name| name.starts_with(&prefix)).map(|name| format!("pins: {name}")));
        let locks = fs::read_dir("/run/rollcall").into_iter().flatten().flatten();
        let locks = locks.map(|entry| entry.file_name().to_string_lossy().into_owned());
        lines.extend(
            locks
                .filter(|name| name.starts_with(&format!("lock-{prefix}")))
                .map(|name| format!("lock: {name}")),
        );
        let files = fs::read_dir(&self.run_dir).into_iter().flatten().flatten();
        lines.extend(files.map(|file| format!("file: {}", file.path().display())));
        let processes = namespace.pids();
        lines.extend(processes.iter().map(|pid| format!("process: {pid}")));
        Ok(lines)
    }

    fn make_run_dir(&self) -> Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(&self.run_dir).context("cannot make run_dir")
    }

    /// What to say if the agent has ended though nobody ended it.
    fn unexpected_end(&mut self) -> Option<String> {
        let ended = self.agent.as_mut()?.ended()?;
        let log = self.log_tail();
        Some(format!("the agent of {} has ended: {ended}\n{log}", self.name()))
    }
}

/// The buckets that a node held at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held(Vec<bool>);

impl Held {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|held| **held).count()
    }

    /// Whether an attempt falls into one of them.
    pub fn holds(&self, attempt: &Attempt, seed: [u64; 2]) -> bool {
        self.has(attempt.bucket(seed))
    }

    /// Whether a client's connection, of a rule without affinity, falls into one of them.
    pub fn has_client(&self, client: SocketAddr, seed: [u64; 2]) -> bool {
        let rule = Rule::new(1, Affinity::None);
        self.has(bucket_of(seed, &rule, &Address::from(client.ip()), client.port()))
    }

    /// Whether `bucket` is one of them.
    pub fn has(&self, bucket: Bucket) -> bool {
        self.0[bucket.index()]
    }
}

/// The owner table that a port falls under.
pub fn table_of<'a>(status: &'a Status, port: &str) -> Result<&'a TableStatus> {
    let serves = |ports: &str| ports.split([',', ' ']).any(|word| word == port);
    let table = status.tables.iter().find(|table| serves(&table.ports));
    table.with_context(|| format!("{} has no table for port {port}", status.node))
}

/// The bucket states of the table that port 443 falls under.
fn buckets(status: &Status) -> Result<&str> {
    let states = &table_of(status, "443")?.states;
    ensure!(states.len() == BUCKETS, "{} shows {} bucket states", status.node, states.len());
    Ok(states)
}

/// A status without its bulk.
fn summary(status: &Status) -> String {
    let mut status = status.clone();
    for table in &mut status.tables {
        table.states.clear();
    }
    serde_json::to_string(&status).unwrap_or_default()
}

/// The binary that the workspace builds.
pub fn rollcall() -> Result<PathBuf> {
    let path = rollcall_path();
    existing(&path)?;
    Ok(path)
}

fn rollcall_path() -> PathBuf {
    workspace_root().join("target/release/rollcall")
}

fn existing(program: &Path) -> Result<&Path> {
    ensure!(program.is_file(), "{} is missing; hint: cargo xtask build", program.display());
    Ok(program)
}

/// The workspace's top folder.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

fn random_secret() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.map(|byte| format!("{byte:02x}")).concat())
}

/// The cluster's configuration: DESIGN's reference cluster.
fn cluster_file(lab: &Lab, certificates: &Certificates) -> String {
    let nodes = lab.places.iter().map(|place| {
        format!(
            "[[node]]\nname = {:?}\naddress = \"{}\"\npriority = {}\n\n",
            place.name, place.address, place.number
        )
    });
    let servers = lab.servers.iter();
    let servers: Vec<_> =
        servers.map(|(name, address, _)| format!("{{ name = {name:?}, address = \"{address}\" }}")).collect();
    format!(
        r#"[cluster]
{}
mode = "{}"
{}gateway = "{GATEWAY}"
# Nodes fall again and again here.
hold_down = "0s"

{}{}
[exchange]
names = [{PUBLIC_NAME:?}, "autodiscover.example.test"]
certificate = {:?}
key = {:?}
servers = [{}]
"#,
        cluster_ips(lab),
        lab.plan.mode.as_str(),
        profile(lab),
        nodes.collect::<String>(),
        lab.plan.rules,
        certificates.certificate,
        certificates.key,
        servers.join(", "),
    )
}

/// A cluster file without its second and further nodes.
pub fn with_first_node_alone(text: &str) -> String {
    let mut parts = text.split("[[node]]\n");
    let (head, first) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // What follows the nodes stands behind the last one's empty line.
    let last = parts.last().unwrap_or(first);
    let rest = last.split_once("\n\n").map_or("", |(_, rest)| rest);
    let first = first.split_once("\n\n").map_or(first, |(node, _)| node);
    format!("{head}[[node]]\n{first}\n\n{rest}")
}

fn cluster_ips(lab: &Lab) -> String {
    if lab.plan.ipv6 {
        format!("ips = [\"{CLUSTER_IP}/24\", \"{CLUSTER_IP6}/64\"]")
    } else {
        format!("ip = \"{CLUSTER_IP}/24\"")
    }
}

/// Nothing where it is the product's default, which is then tried, too.
fn profile(lab: &Lab) -> String {
    let profile = lab.plan.profile;
    if profile == "default" { String::new() } else { format!("profile = {profile:?}\n") }
}

/// The line of a link without the numbers that differ from one run to the next.
fn without_ids(line: &str) -> String {
    let words = line.split_whitespace();
    let mut kept = Vec::new();
    let mut skip = false;
    for word in words {
        if !skip {
            kept.push(word);
        }
        skip = ["qlen", "link-netnsid"].contains(&word);
    }
    kept.join(" ")
}

/// The IP sysctls of every interface of the calling thread's namespace.
fn interface_sysctls() -> Vec<String> {
    let mut lines = Vec::new();
    let families = ["/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf"];
    let interfaces = families.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    for interface in interfaces {
        for key in fs::read_dir(interface.path()).into_iter().flatten().flatten() {
            let value = fs::read_to_string(key.path()).unwrap_or_default();
            lines.push(format!("sysctl: {} = {}", key.path().display(), value.trim()));
        }
    }
    lines
}
