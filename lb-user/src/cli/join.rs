//! `rollcall join` and `rollcall token`: how a host comes into a cluster.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::ask::{patiently, unexpected};
use super::host::{Host, Me, new_keys};
use super::{Place, doctor, output};
use crate::agent::upgrade::own_program;
use crate::config::model::PEER_PORT;
use crate::control::api::{Answer, Configure, Request};
use crate::peer::supervisor::{Peer, Spec};
use crate::shared::generation::Generation;
use crate::shared::keys::NodeKeys;
use crate::shared::message::{Application, Question, Reply};
use crate::shared::record::SignedRecord;
use crate::shared::store::Store;
use crate::shared::token::{DEFAULT_LIFE, Newcomer, Token};
use crate::wall::WallTime;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address of the node that issued the token
    of: Ipv4Addr,
    /// What `rollcall token` printed there
    #[arg(long)]
    token: String,
    /// Its host priority, 1 to 64 [default: the lowest that is free]
    #[arg(long)]
    priority: Option<u8>,
    #[command(flatten)]
    host: Host,
}

/// How long the other node may take: it asks all others, too.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let token: Token = args.token.parse()?;
    let now = WallTime::now().unix_ms() / 1000;
    if token.expires <= now {
        let end = WallTime::from_unix_ms(token.expires.saturating_mul(1000));
        output::remark(&format!(
            "by this host's clock the token expired at {}; the other node's clock decides",
            end.local()
        ));
    }
    args.host.is_free()?;
    let (me, keys) = (args.host.whoami()?, new_keys()?);
    let (generation, record) = ask(args, &token, &me, &keys)?;
    args.host.settle(&me, &keys, || {
        Store::create(&args.host.state_dir, &generation, &[record])?;
        Ok(())
    })?;
    let arguments = args.host.arguments();
    let nodes: Vec<&str> = generation.head.header().roster.keys().map(String::as_str).collect();
    output::line(&format!("{} is a node of the cluster now: {}", me.name, nodes.join(", ")));
    output::line("next:");
    output::line(&format!("  rollcall run{arguments}"));
    output::line("      serves");
    output::line(&format!("  rollcall doctor{arguments}"));
    output::line("      says what of the network, or of the other nodes, stands in the way");
    doctor::afterwards(&args.host.origin());
    Ok(())
}

/// Asks to be let in, by a child that is not root.
fn ask(args: &Args, token: &Token, me: &Me, keys: &NodeKeys) -> anyhow::Result<(Generation, SignedRecord)> {
    let newcomer =
        Newcomer { name: me.name.clone(), address: me.address, priority: args.priority, keys: keys.public() };
    let proof = token.prove(&newcomer);
    let question = Question::Join(Box::new(Application { newcomer, proof })).encode();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let answer = runtime.block_on(async {
        let peer = Peer::start(Spec {
            program: own_program(),
            user: args.host.peer_user.clone(),
            me: me.name.clone(),
            seed: keys.transport(),
            listener: None,
            nodes: Vec::new(),
        })?;
        let answer = peer.calls().greet(args.of, token.issuer, question, PATIENCE).await;
        peer.stop().await;
        let reached = || {
            format!(
                "{} lets nobody in; hint: does `rollcall run` run there, is TCP {PEER_PORT} open from here, and is the token that node's and not used or expired?",
                args.of
            )
        };
        Ok::<_, anyhow::Error>(answer.with_context(reached)?.bytes)
    })?;
    let (generation, record) = match Reply::decode(&answer)? {
        Reply::Welcome { generation, record } => (generation, record),
        Reply::Refused(why) => bail!("{} refuses: {why}", args.of),
        Reply::Inventory(_)
        | Reply::Pieces(_)
        | Reply::Sound
        | Reply::Taken
        | Reply::Tried(_)
        | Reply::Work(_) => {
            bail!("{} answers something else; hint: do both run the same version of rollcall?", args.of)
        }
    };
    welcome(&generation, &record, token, me, keys)
}

/// The other node is who the token says: what it sent must fit that, and this node.
fn welcome(
    generation: &[u8],
    record: &[u8],
    token: &Token,
    me: &Me,
    keys: &NodeKeys,
) -> anyhow::Result<(Generation, SignedRecord)> {
    let generation = Generation::decode(generation)?;
    let record = SignedRecord::decode(record)?;
    let roster = &generation.head.header().roster;
    ensure!(
        roster.get(&me.name) == Some(&keys.public()),
        "the configuration that came does not list this node's keys"
    );
    ensure!(
        roster.values().any(|keys| keys.transport == token.issuer),
        "the configuration that came does not list the node that sent it"
    );
    record.check(&[roster])?;
    ensure!(
        record.record().generation == generation.id(),
        "the record that came is about another configuration"
    );
    Ok((generation, record))
}

/// What was typed.
#[derive(Debug, clap::Args)]
pub(super) struct TokenArgs {
    /// For how many minutes it is good, up to a day's
    #[arg(long, value_name = "MINUTES", default_value_t = DEFAULT_LIFE.as_secs() / 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
    valid: u64,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn token(args: &TokenArgs) -> anyhow::Result<()> {
    let request = Request::Configuration(Configure::Token { seconds: args.valid * 60 });
    let answer = patiently(&args.place.run_dir, &request)?;
    let Answer::Token { token, address } = answer else { return Err(unexpected(answer)) };
    if args.json {
        output::line(&serde_json::json!({ "token": token, "address": address }).to_string());
    } else {
        output::line(&format!("rollcall join {address} --token {token}"));
        output::remark(&format!(
            "lets one node in, once, within {} minutes: keep it to yourself",
            args.valid
        ));
    }
    Ok(())
}
