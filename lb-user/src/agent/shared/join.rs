//! Hosts that come in: tokens, and who shows that it has one.

use std::net::Ipv4Addr;
use std::time::Duration;

use tracing::{info, warn};

use super::nodes::Network;
use super::removal::random;
use super::state::Words;
use super::{AT_ONCE, Applier, Refused, SharedConfig};
use crate::agent::events::Note;
use crate::config::model::{Cluster, Config, Node, Priority};
use crate::config::told;
use crate::shared::draft::Draft;
use crate::shared::founding::{NewNode, with_node};
use crate::shared::keys::{Seed, VerifyingKey};
use crate::shared::message::Reply;
use crate::shared::token::{ClusterId, LONGEST_LIFE, Newcomer, Proof, Token, Tokens};
use crate::wall::WallTime;

/// How many strangers may be connected while a token is out.
const STRANGERS: u8 = 4;

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// A token that lets one node in within so many seconds, and this node's address.
    pub(super) async fn token(&self, seconds: u64) -> Result<(String, Ipv4Addr), Refused> {
        let life = Duration::from_secs(seconds).min(LONGEST_LIFE);
        let seed = random()?;
        let now = now();
        let state = self.state.lock().await;
        let issuer = state.local.keys.public().transport;
        let config = state.in_force()?.config;
        let token = Token::new(cluster_of(&config)?, issuer, now.saturating_add(life.as_secs()), Seed(seed));
        tokio::task::block_in_place(|| Tokens::of(&state.local.file.state_dir).issue(&token.issued(), now))?;
        self.network.admit(STRANGERS);
        info!(?life, "a join token was issued");
        Ok((token.word(), config.me().address))
    }

    /// Strangers are let in only while a token is out.
    pub(in crate::agent) async fn mind_the_door(&self) {
        let state = self.state.lock().await;
        let out = tokio::task::block_in_place(|| Tokens::of(&state.local.file.state_dir).out(now()));
        self.network.admit(if out.is_ok_and(|out| out > 0) { STRANGERS } else { 0 });
    }

    /// Lets a host in that has a token of this node.
    pub(super) async fn join(&self, key: VerifyingKey, newcomer: Newcomer, proof: &Proof) -> Reply {
        // A stranger's word, until its proof was looked at.
        let name: String = newcomer.name.chars().filter(char::is_ascii_graphic).take(63).collect();
        let joined = self.try_join(key, newcomer, proof).await;
        self.mind_the_door().await;
        match joined {
            Ok(welcome) => {
                self.events.push(Note::new(
                    "node-joined",
                    false,
                    format!("{name} came into the cluster with a token of this node"),
                ));
                welcome
            }
            Err(refused) => {
                let why = told(&refused);
                warn!(node = %name, %why, "a host that wanted to join was refused");
                self.events.push(Note::new(
                    "join-refused",
                    true,
                    format!("{name} wanted to join and was refused: {why}"),
                ));
                Reply::Refused(why)
            }
        }
    }

    async fn try_join(&self, key: VerifyingKey, newcomer: Newcomer, proof: &Proof) -> Result<Reply, Refused> {
        if newcomer.keys.transport != key {
            return Err(Refused::Join(
                "the connection was made with another key than the one to be listed".to_owned(),
            ));
        }
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let (before, draft) = {
            let state = self.state.lock().await;
            let tokens = Tokens::of(&state.local.file.state_dir);
            let before = state.in_force()?;
            let cluster = cluster_of(&before.config)?;
            tokio::task::block_in_place(|| tokens.check(cluster, &newcomer, proof, now()))?;
            let node = place_for(&newcomer, &before.config.cluster)?;
            let text = state.generation(before.id)?.content.text;
            let text =
                with_node(&text, &node, &newcomer.keys).map_err(|error| Refused::Join(error.to_string()))?;
            // Before anything is answered, and before anything is done that a second one with this token could do, too.
            tokio::task::block_in_place(|| tokens.spend(proof))?;
            let secrets = before.secrets.clone();
            (before, Draft { text, secrets, kept: Vec::new() })
        };
        let comment = format!("{} at {} comes in", newcomer.name, newcomer.address);
        self.bring_in(&before, draft, Words { comment, restores: None }, AT_ONCE).await?;
        let state = self.state.lock().await;
        let generation = state.generation(state.current())?;
        let record = state.local.history.records_on(generation.id()).next();
        let record = record.ok_or_else(|| Refused::Join("another change came between".to_owned()))?;
        Ok(Reply::Welcome { generation: generation.encode(), record: record.encode() })
    }
}

/// Where a newcomer goes among the nodes, if nobody is there.
fn place_for(newcomer: &Newcomer, cluster: &Cluster) -> Result<NewNode, Refused> {
    let Newcomer { name, address, priority, .. } = newcomer;
    let taken = |what: String, hint: &str| Err(Refused::Join(format!("{what}; hint: {hint}")));
    if let Some(other) = cluster.nodes.iter().find(|node| node.name == *name) {
        return taken(
            format!("a node is called {name} already, at {}", other.address),
            "rollcall join --name, or `rollcall remove` it first if it is gone for good",
        );
    }
    if let Some(other) = cluster.nodes.iter().find(|node| node.address == *address) {
        return taken(format!("{} has the address {address} already", other.name), "rollcall join --address");
    }
    let is_free = |number: u8| cluster.nodes.iter().all(|node| node.priority.number() != number);
    let priority = match priority {
        Some(number) if !is_free(*number) => {
            return taken(
                format!("the host priority {number} is taken"),
                "rollcall join --priority, or leave it out",
            );
        }
        Some(number) => Some(*number),
        None => (1..=Priority::MAX).find(|number| is_free(*number)),
    };
    let priority =
        priority.ok_or_else(|| Refused::Join("the cluster has as many nodes as there can be".to_owned()))?;
    Ok(NewNode { name: name.clone(), address: *address, priority })
}

fn cluster_of(config: &Config) -> Result<ClusterId, Refused> {
    let secret = config.secret().map_err(|error| Refused::Join(error.to_string()))?;
    Ok(ClusterId::of(&secret))
}

fn now() -> u64 {
    WallTime::now().unix_ms() / 1000
}

/// The nodes as the child that talks to them knows them.
pub(in crate::agent) fn nodes_of(nodes: &[Node]) -> Vec<crate::peer::Node> {
    let with_keys = nodes.iter().filter_map(|node| {
        let key = node.keys.as_ref()?.transport;
        Some(crate::peer::Node { name: node.name.clone(), address: node.address, key })
    });
    with_keys.collect()
}
