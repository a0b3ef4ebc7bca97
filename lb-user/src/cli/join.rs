//! `rollcall join` and `rollcall token`: how a host comes into a cluster.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use rustix::io::Errno;

use super::ask::{patiently, unexpected};
use super::host::{Host, Me, new_keys};
use super::{Place, doctor, output};
use crate::agent::upgrade::own_program;
use crate::config::model::PEER_PORT;
use crate::control::api::{Answer, Configure, Request};
use crate::peer::channel::Trouble;
use crate::peer::supervisor::{CallError, Peer, Spec};
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
    /// One JSON object on one line: the node, where its files are, and all nodes
    #[arg(long)]
    json: bool,
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
    if args.json {
        let mut told = args.host.as_json(&me);
        told["nodes"] = serde_json::json!(nodes);
        output::line(&told.to_string());
        return Ok(());
    }
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
        let expired = token.expires <= WallTime::now().unix_ms() / 1000;
        Ok::<_, anyhow::Error>(answer.map_err(|error| unheard(error, args.of, expired))?.bytes)
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

/// Why the node at `of` gave no answer at all, for who typed the token; `expired`: it has by this host's clock.
fn unheard(error: CallError, of: Ipv4Addr, expired: bool) -> anyhow::Error {
    const REFUSED: i32 = Errno::CONNREFUSED.raw_os_error();
    // What a firewall's reject is, too.
    const NO_HOST: i32 = Errno::HOSTUNREACH.raw_os_error();
    const NO_NETWORK: i32 = Errno::NETUNREACH.raw_os_error();
    match error {
        CallError::OtherKey { .. } => anyhow!(
            "the node at {of} did not issue this token: it is another node's, or another cluster's; hint: `rollcall token` on the host at {of} prints one of its own"
        ),
        CallError::Unlisted { .. } if expired => {
            anyhow!("the token has expired; hint: `rollcall token` on the host at {of} prints another")
        }
        CallError::Unlisted { .. } => anyhow!(
            "{of} takes nobody in now: this token was used, or has expired by the clock there; hint: `rollcall token` on that host prints another"
        ),
        CallError::Unreachable { trouble: Trouble::System(REFUSED), .. } => {
            anyhow!("nobody listens at {of}, TCP {PEER_PORT}; hint: does `rollcall run` run there?")
        }
        CallError::Unreachable {
            trouble: Trouble::Silent | Trouble::System(NO_HOST | NO_NETWORK), ..
        } => anyhow!(
            "nothing comes back from {of}, TCP {PEER_PORT}; hint: is the host up, and does every firewall on the way let TCP {PEER_PORT} through, that host's own among them?"
        ),
        error @ (CallError::NoSuchNode { .. }
        | CallError::Unreachable { .. }
        | CallError::Refused { .. }
        | CallError::Busy { .. }
        | CallError::TimedOut { .. }
        | CallError::TooLong { .. }
        | CallError::Stopped) => anyhow::Error::new(error)
            .context(format!("{of} lets nobody in; hint: the log of the agent on that host may say why")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::keys::{NodeKeys, Seed};

    #[test]
    fn who_is_not_let_in_is_told_what_to_do_about_it() {
        let of = Ipv4Addr::new(192, 168, 50, 6);
        let whom = || of.to_string();
        let key = NodeKeys::new(Seed([1; 32]), Seed([2; 32])).public().transport;
        let unreachable = |trouble| CallError::Unreachable { whom: whom(), trouble };
        let refused = Errno::CONNREFUSED.raw_os_error();
        for (error, expired, said) in [
            (
                CallError::OtherKey { whom: whom(), presented: key, wanted: key },
                false,
                "did not issue this token",
            ),
            (CallError::Unlisted { whom: whom(), ours: key }, true, "the token has expired"),
            (CallError::Unlisted { whom: whom(), ours: key }, false, "this token was used"),
            (unreachable(Trouble::System(refused)), false, "nobody listens"),
            (unreachable(Trouble::Silent), false, "nothing comes back"),
            (unreachable(Trouble::System(Errno::HOSTUNREACH.raw_os_error())), false, "nothing comes back"),
            (CallError::Stopped, false, "lets nobody in"),
            (unreachable(Trouble::NoPeer), true, "no Rollcall node of this version"),
            (CallError::Busy { whom: whom() }, false, "busy"),
        ] {
            let told = format!("{:#}", unheard(error, of, expired));
            assert!(told.contains(said) && told.contains("hint: "), "{told}");
        }
    }
}
