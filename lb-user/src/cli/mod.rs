//! The command line: what was typed, which part of the library does it, and with which status the process ends: 0, 2 for
//! usage and configuration, 1 for the rest (`manual.rs` tells operators).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::confirm::Consent;
use crate::agent::upgrade::Arrival;
use crate::config::secret::SecretError;
use crate::config::{ConfigErrors, warnings};
use crate::control::api::Action;
use crate::dataplane::link::InspectError;
use crate::iis::ImportError;
use crate::preflight::{self, PreflightErrors};
use crate::proxy::spawn::SpawnError;
use crate::proxy::supervisor::SupervisorError;
use crate::shared::origin::{self, LoadError, Origin};
use crate::{agent, etcd, peer, proxy, telemetry};

mod ask;
mod capture;
mod certificate;
mod check;
mod cleanup;
mod config;
mod confirm;
mod connections;
mod doctor;
mod events;
mod explain;
mod farm;
mod host;
mod import_iis;
mod init;
mod join;
mod leave;
mod load;
mod manual;
mod metrics;
mod operate;
mod output;
mod passphrase;
mod plan;
mod reload;
mod remove;
mod schema;
mod status;
mod upgrade;

/// One highly available IP address shared by several Linux hosts, with a reverse proxy to Microsoft Exchange
#[derive(Debug, Parser)]
#[command(name = "rollcall", version, after_help = manual::exit_status())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this host the first node of a cluster: keys, its own file, and a configuration to begin with
    Init(Box<init::Args>),
    /// Print what the next node joins this cluster with: a word that is good for one node, and not for long
    Token(join::TokenArgs),
    /// Make this host a node of a cluster, with a token that one of its nodes printed
    Join(Box<join::Args>),
    /// Take another node out of the cluster for good, with a cluster secret that it does not know
    ///
    /// It hands its share over and its connections end by themselves. What it has known of TLS keys and passwords is named.
    Remove(remove::Args),
    /// Take this node out of its cluster, and remove the configuration from this host once another node has confirmed it
    Leave(leave::Args),
    /// Run this node's agent until it is told to stop
    Run(Files),
    /// Check a configuration and show what it means
    Check {
        /// The cluster file [default: the configuration that the nodes share, as this one has it]
        #[arg(value_name = "FILE")]
        config: Option<PathBuf>,
        /// This node's file [default: node.toml beside the cluster file, or /etc/rollcall/node.toml]
        #[arg(long, value_name = "FILE")]
        node_file: Option<PathBuf>,
        /// Print the cluster file that means the same, with nothing left to a default
        #[arg(long, conflicts_with = "json")]
        expand: bool,
        /// Then look whether the network does what the configuration needs, as `rollcall doctor` does
        #[arg(long, conflicts_with = "expand")]
        network: bool,
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Say why the cluster does not work on this network, and what to type so that it does
    ///
    /// Sends a few frames to the gateway and to the other nodes, whose agents answer, connects to nodes and servers, and reads what this
    /// host says of itself. Changes nothing here. Ends with 1 where there is a problem.
    Doctor(doctor::Args),
    /// Show how things are on this node
    Status {
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Say what each node would do with such a packet, and why
    Explain {
        #[command(flatten)]
        args: explain::Args,
        #[command(flatten)]
        place: Place,
    },
    /// Show the servers behind this node: states, health tests, requests; or have one be in another state
    Farm(farm::Args),
    /// Stream what becomes of packets on this node
    ///
    /// While it runs, a program that samples stands in place of the usual one, which has no code for it.
    Capture {
        #[command(flatten)]
        args: capture::Args,
        #[command(flatten)]
        place: Place,
    },
    /// List the TCP connections to the cluster IPs on this node, with their buckets
    Connections {
        #[command(flatten)]
        args: connections::Args,
        #[command(flatten)]
        place: Place,
    },
    /// Print all that is counted on this node, as OpenMetrics text
    ///
    /// It has no --json: OpenMetrics is the form that programs read it in.
    Metrics {
        #[command(flatten)]
        place: Place,
    },
    /// Show what happened on this node: who came and went, what moved, what is wrong
    Events {
        #[command(flatten)]
        args: events::Args,
        #[command(flatten)]
        place: Place,
    },
    /// Show when this node's cluster converged, how long it took, and why
    History {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        left: events::Left,
        #[command(flatten)]
        place: Place,
    },
    /// Have a stopped or drained node take a share, or a port rule on it
    Start {
        #[command(flatten)]
        args: operate::OfRule,
        #[command(flatten)]
        place: Place,
    },
    /// Have a node hand its share over at once and leave the cluster: its connections end
    ///
    /// The agent goes on and takes orders, from other nodes too. With --rule the node hands over its share of that rule alone, and
    /// connections go on as far as its service lets them.
    Stop {
        #[command(flatten)]
        args: operate::OfRule,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        place: Place,
    },
    /// Have a node hand its share over: open connections go on, and clients of sticky rules are waited for
    Drain {
        #[command(flatten)]
        args: operate::drain::Args,
        #[command(flatten)]
        place: Place,
    },
    /// Stop a node that is to take no orders from other nodes until `resume` on it
    Suspend {
        #[command(flatten)]
        args: operate::Whole,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        place: Place,
    },
    /// Have a suspended, stopped or drained node take a share again
    Resume {
        #[command(flatten)]
        args: operate::Whole,
        #[command(flatten)]
        place: Place,
    },
    /// Have a node that stands by take its share now
    Failback {
        #[command(flatten)]
        args: operate::Whole,
        #[command(flatten)]
        place: Place,
    },
    /// Say that a silent node is gone for good, and its connections with it: the others need not wait for it
    Forget {
        /// The node
        node: String,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        form: operate::Form,
        #[command(flatten)]
        place: Place,
    },
    /// Have a node use another weight or priority than the configuration's
    #[command(subcommand)]
    Set(operate::Set),
    /// Restart the agents of all nodes one after the other, this one last, while the others serve
    RollingRestart {
        #[command(flatten)]
        args: operate::rolling::Args,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        place: Place,
    },
    /// Show or change the configuration that the nodes share
    #[command(subcommand)]
    Config(config::Config),
    /// Show the certificates that the sites serve, or replace one on all nodes
    Certificate(certificate::Args),
    /// Read the configuration again and apply what it says of the service; no connection ends by it
    ///
    /// Sites, farms, routes, certificates, limits and TCP services are applied. Nodes, weights, handling priorities and periods are prepared
    /// until every node has read the same, then all switch. Cluster IPs, mode and port rules need a restart and are refused, as is whatever
    /// has an error: then nothing changes. SIGHUP does the same.
    Reload {
        /// Have another worker take over, which the old one leaves its requests to until the drain timeout
        #[arg(long)]
        replace_worker: bool,
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Put a new program in the agent's place, in the same process; no bucket moves, no connection ends
    Upgrade {
        /// The new program [default: the file from which the agent was started]
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Print the JSON Schema of the cluster file, with which editors complete and check it
    Schema {
        /// That of a node's own file instead
        #[arg(long)]
        node: bool,
    },
    /// Make a cluster file of a configuration of IIS, ARR and Windows NLB, and say what became of each setting
    ///
    /// Ends with 0 where the result can be used as it stands, and with 2 where something is to be filled in or was refused.
    ImportIis(Box<import_iis::Args>),
    /// Say what to do, step by step; changes nothing
    #[command(subcommand)]
    Plan(plan::Plan),
    /// Remove everything that a killed agent left on this host
    Cleanup {
        #[command(flatten)]
        files: Files,
        #[command(flatten)]
        consent: Consent,
        /// One JSON object on one line
        #[arg(long)]
        json: bool,
    },
    /// Print a shell's completions of this command
    ///
    /// For bash, for example: rollcall completions bash > /etc/bash_completion.d/rollcall
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page of this command
    Man {
        /// Write a page for it and for each of its subcommands there instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Print the format of what this program takes over in an upgrade, and have the kernel look at its packet programs; asked by the agent
    #[command(hide = true)]
    UpgradeCheck {
        /// The cluster file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// This node's file; without either nothing is looked at
        #[arg(long, value_name = "FILE")]
        node_file: Option<PathBuf>,
    },
    /// The proxy child; started by the agent
    #[command(hide = true)]
    Proxy,
    /// The child that talks to other nodes; started by the agent
    #[command(hide = true)]
    Peer,
    /// The child that talks to etcd; started by the agent
    #[command(hide = true)]
    Store,
    /// Attach the program alone, for who works on the data path
    #[command(hide = true)]
    Load(load::Args),
}

/// Which configuration.
#[derive(Debug, clap::Args)]
struct Files {
    /// The cluster file [default: the configuration that the nodes share, as this one has it]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This node's file [default: node.toml beside the cluster file, or /etc/rollcall/node.toml]
    #[arg(long, value_name = "FILE")]
    node_file: Option<PathBuf>,
}

impl Files {
    fn origin(self) -> Origin {
        match self.config {
            Some(cluster) => Origin::Files { cluster, node: self.node_file },
            None => Origin::Store { node: self.node_file.unwrap_or_else(|| origin::NODE_FILE.into()) },
        }
    }
}

/// Which agent.
#[derive(Debug, clap::Args)]
struct Place {
    /// The agent's run folder
    #[arg(long, value_name = "DIR", default_value = "/run/rollcall")]
    run_dir: PathBuf,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let arrival = Arrival::find();
    let json = output::json_asked(std::env::args_os());
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error, json),
    };
    if let Command::Proxy = command {
        return proxy::worker::main();
    }
    if let Command::Peer = command {
        return peer::worker::main();
    }
    if let Command::Store = command {
        return etcd::worker::main();
    }
    match run(command, arrival) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if json {
                output::error_as_json(&error)
            } else {
                output::error(&error)
            }
            ExitCode::from(status_of(&error))
        }
    }
}

/// What is wrong with the command line, or the help that was asked for.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() {
        output::usage_as_json(&error.to_string());
    } else {
        // Who does not read it cannot be told.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(command: Command, arrival: Option<anyhow::Result<Arrival>>) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Token(args) => join::token(&args),
        Command::Join(args) => join::run(&args),
        Command::Remove(args) => remove::run(args),
        Command::Leave(args) => leave::run(args),
        Command::Run(files) => run_agent(files, arrival),
        Command::Check { config, node_file, expand, network, json } => {
            check::run(&Files { config, node_file }.origin(), expand, network, json)
        }
        Command::Doctor(args) => doctor::run(args),
        Command::Status { json, place } => status::run(&place.run_dir, json),
        Command::Explain { args, place } => explain::run(&place.run_dir, args),
        Command::Farm(args) => farm::run(args),
        Command::Capture { args, place } => capture::run(&place.run_dir, args),
        Command::Connections { args, place } => connections::run(&place.run_dir, args),
        Command::Metrics { place } => metrics::run(&place.run_dir),
        Command::Events { args, place } => events::run(&place.run_dir, args),
        Command::History { json, left, place } => events::history::run(&place.run_dir, &left, json),
        Command::Start { args, place } => operate::of_rule(&place.run_dir, Action::Start, args),
        Command::Stop { args, consent, place } => operate::stop(&place.run_dir, args, consent),
        Command::Drain { args, place } => operate::drain::run(&place.run_dir, args),
        Command::Suspend { args, consent, place } => operate::suspend(&place.run_dir, args, consent),
        Command::Resume { args, place } => operate::whole(&place.run_dir, Action::Resume, args),
        Command::Failback { args, place } => operate::whole(&place.run_dir, Action::Failback, args),
        Command::Forget { node, consent, form, place } => {
            operate::forget(&place.run_dir, node, consent, form)
        }
        Command::Set(set) => operate::set(set),
        Command::RollingRestart { args, consent, place } => {
            consent.ask("The agents of all nodes restart, one after the other")?;
            operate::rolling::run(&place.run_dir, &args)
        }
        Command::Config(config) => config::run(config),
        Command::Certificate(args) => certificate::run(args),
        Command::Reload { replace_worker, json, place } => reload::run(&place.run_dir, replace_worker, json),
        Command::Upgrade { binary, json, place } => upgrade::run(&place.run_dir, binary, json),
        Command::UpgradeCheck { config, node_file } => {
            let named = config.is_some() || node_file.is_some();
            upgrade::check(named.then(|| Files { config, node_file }.origin()).as_ref())
        }
        Command::Schema { node } => schema::run(node),
        Command::Cleanup { files, consent, json } => cleanup::run(&files.origin(), consent, json),
        Command::Completions { shell } => {
            manual::completions(shell, Cli::command());
            Ok(())
        }
        Command::Man { out } => manual::pages(Cli::command(), out.as_deref()),
        Command::Proxy | Command::Peer | Command::Store => Ok(()),
        Command::ImportIis(args) => import_iis::run(&args),
        Command::Plan(plan) => plan::run(plan),
        Command::Load(args) => load::run(&args),
    }
}

fn run_agent(files: Files, arrival: Option<anyhow::Result<Arrival>>) -> anyhow::Result<()> {
    preflight::check_process()?;
    let origin = files.origin();
    let config = origin.load()?;
    telemetry::init();
    for warning in warnings(&config) {
        tracing::warn!("{warning}");
    }
    match agent::run(config, origin, arrival)? {
        agent::End::Stopped => Ok(()),
        agent::End::Restart(again) => Err(again.start()),
        agent::End::Upgrade(departure) => Err(departure.depart()),
    }
}

/// The exit status that `error` means.
fn status_of(error: &anyhow::Error) -> u8 {
    let configuration = error.chain().any(|cause| {
        cause.is::<ConfigErrors>()
            || cause.is::<LoadError>()
            || cause.is::<ImportError>()
            || cause.is::<import_iis::Incomplete>()
            || cause.is::<ask::Invalid>()
            || cause.is::<SecretError>()
            || cause.downcast_ref().is_some_and(PreflightErrors::is_configuration)
            || cause.downcast_ref().is_some_and(InspectError::is_configuration)
            || cause.downcast_ref().is_some_and(SpawnError::is_configuration)
            || cause.downcast_ref().is_some_and(SupervisorError::is_configuration)
    });
    if configuration { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::api::Answer;
    use crate::proxy::tls::TlsError;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_wrong_with_a_configuration_ends_with_2_and_the_rest_with_1() {
        let missing = crate::config::load(Path::new("/nonexistent/cluster.toml"), None).unwrap_err();
        assert_eq!(status_of(&missing.into()), 2);
        let by_the_agent = |answer| status_of(&ask::unexpected(answer));
        assert_eq!(by_the_agent(Answer::Invalid { text: "unknown key".to_owned() }), 2);
        assert_eq!(by_the_agent(Answer::Error { text: "a node objects".to_owned() }), 1);
        assert_eq!(status_of(&anyhow::anyhow!("else")), 1);
    }

    #[test]
    fn what_the_proxy_cannot_be_started_for_is_told_apart() {
        let no_user = || SpawnError::NoUser { user: "nobody-there".to_owned() };
        let path = || "/nonexistent/mail.crt".into();
        let missing = || std::io::ErrorKind::NotFound.into();
        for (error, status) in [
            (SupervisorError::Read { path: path(), source: missing() }, 2),
            (SupervisorError::Pem { path: path(), source: TlsError::NoCertificate }, 2),
            (SupervisorError::NoFarm { farm: "exchange".to_owned() }, 2),
            (SupervisorError::Spawn(no_user()), 2),
            (SupervisorError::Spawn(SpawnError::Start { path: path(), source: missing() }), 1),
            (SupervisorError::Handover { path: path(), source: missing() }, 1),
        ] {
            let text = format!("{error:?}");
            assert_eq!(status_of(&error.into()), status, "{text}");
        }
        assert_eq!(status_of(&no_user().into()), 2);
    }
}
