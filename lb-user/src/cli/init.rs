//! `rollcall init`: makes this host the first node of a cluster. What was not typed is asked, where somebody can answer.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::host::{Host, Me, answers, asked, new_keys, random};
use super::{doctor, output};
use crate::config;
use crate::config::model::PEER_PORT;
use crate::shared::founding::{Exchange, Founding, NewNode, found, with_only};
use crate::shared::keys::NodeKeys;
use crate::shared::store::Store;
use crate::wall::WallTime;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    host: Host,
    /// Its host priority, 1 to 64
    #[arg(long, default_value_t = 1)]
    priority: u8,
    /// The cluster IP with its prefix length, such as 192.168.50.8/24
    #[arg(long, value_name = "ADDRESS/LENGTH", conflicts_with = "from")]
    ip: Option<String>,
    /// How frames reach all nodes: multicast, igmp or unicast
    #[arg(long, conflicts_with = "from")]
    mode: Option<String>,
    /// A public name of the mail service, such as mail.example.test
    #[arg(long = "mail", value_name = "NAME", conflicts_with = "from")]
    mail: Vec<String>,
    /// An Exchange server's address
    #[arg(long = "server", value_name = "ADDRESS", conflicts_with = "from")]
    servers: Vec<String>,
    /// The certificate: PEM, or PKCS#12 as Windows exports it
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    certificate: Option<PathBuf>,
    /// Its key, where that is another file
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// A file with the password of either
    #[arg(long, value_name = "FILE", requires = "certificate")]
    password_file: Option<PathBuf>,
    /// A cluster file to begin with, such as `rollcall import-iis` wrote; of its nodes this one begins
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// One JSON object on one line: the node, and where its files are
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    args.host.is_free()?;
    let (me, keys) = (args.host.whoami()?, new_keys()?);
    let node = NewNode { name: me.name.clone(), address: me.address, priority: args.priority };
    let text = match &args.from {
        Some(path) => taken_over(path, &node, &keys)?,
        None => founding(args, &me, node)?.text(&keys.public()),
    };
    let (generation, record) = found(text, &me.name, &random()?, &keys, WallTime::now().unix_ms())?;
    args.host.settle(&me, &keys, || {
        Store::create(&args.host.state_dir, &generation, &[record])?;
        Ok(())
    })?;
    if args.json {
        output::line(&args.host.as_json(&me).to_string());
        return Ok(());
    }
    tell(&args.host, &me);
    doctor::afterwards(&args.host.origin());
    Ok(())
}

fn founding(args: &Args, me: &Me, node: NewNode) -> anyhow::Result<Founding> {
    let example = format!("{}/{}", me.address, me.prefix);
    let what =
        format!("the cluster IP with its prefix length, an unused address of the network of {example}");
    let ip = asked(args.ip.as_deref(), "--ip", &what, "192.168.50.8/24")?;
    let sound = ip
        .split_once('/')
        .is_some_and(|(address, length)| address.parse::<IpAddr>().is_ok() && length.parse::<u8>().is_ok());
    ensure!(sound, "{ip} is not an address with a prefix length; hint: --ip 192.168.50.8/24");
    let proposed = if args.mode.is_none() && answers() { doctor::proposed_mode(me, &ip) } else { "unicast" };
    let why =
        "how frames reach all nodes: multicast, igmp or unicast; unicast asks least of switches and routers";
    let mode = asked(args.mode.as_deref(), "--mode", why, proposed)?;
    Ok(Founding { ip, mode, node, exchange: exchange(args)? })
}

fn exchange(args: &Args) -> anyhow::Result<Option<Exchange>> {
    if args.mail.is_empty() && args.servers.is_empty() && args.certificate.is_none() {
        return Ok(None);
    }
    ensure!(!args.mail.is_empty(), "a mail service needs its public name; hint: --mail mail.example.test");
    ensure!(
        !args.servers.is_empty(),
        "a mail service needs its Exchange servers; hint: --server 10.0.0.36 --server 10.0.0.37"
    );
    let certificate = args
        .certificate
        .as_ref()
        .context("a mail service needs its certificate; hint: --certificate mail.pfx --password-file FILE")?;
    let absolute = |path: &PathBuf| std::path::absolute(path).context("cannot tell the current folder");
    Ok(Some(Exchange {
        names: args.mail.clone(),
        servers: args.servers.clone(),
        certificate: absolute(certificate)?,
        key: args.key.as_ref().map(absolute).transpose()?,
        password_file: args.password_file.as_ref().map(absolute).transpose()?,
    }))
}

/// The text of a cluster file, with this node's keys in it.
fn taken_over(path: &Path, node: &NewNode, keys: &NodeKeys) -> anyhow::Result<String> {
    let text = config::text_of(path)?;
    let cluster = config::cluster_of(text.as_bytes(), path)?;
    let (own, others): (Vec<&str>, Vec<&str>) =
        cluster.nodes.iter().map(|node| node.name.as_str()).partition(|name| *name == node.name);
    ensure!(
        !own.is_empty(),
        "{} names the nodes {}, and this is {}; hint: say who this is with --name",
        path.display(),
        others.join(", "),
        node.name
    );
    if !others.is_empty() {
        output::remark(&format!("left out until they come in by `rollcall join`: {}", others.join(", ")));
    }
    Ok(with_only(&text, node, &keys.public())?)
}

fn tell(host: &Host, me: &Me) {
    let arguments = host.arguments();
    output::line(&format!("{} is the first node of a new cluster", me.name));
    output::line(&format!("  its own facts   {}", host.node_file().display()));
    output::line(&format!("  its keys        {}, which stay on this host", host.key_file().display()));
    output::line(&format!("  what all share  {}", host.state_dir.join("generations").display()));
    output::line("next:");
    output::line(&format!("  rollcall check{arguments}"));
    output::line("      says what the configuration means");
    output::line(&format!("  rollcall run{arguments}"));
    output::line("      serves");
    output::line("  rollcall token");
    output::line(&format!(
        "      prints what the next node joins with; TCP {PEER_PORT} has to be open between nodes"
    ));
}
