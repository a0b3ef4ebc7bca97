//! Nodes that go, and the cluster secret, which changes when one does.
//!
//! ```text
//! remove arr3, on arr1   checked, kept and told as every change; arr3 is told that it is left out, hands over, and ends
//! leave, on arr3         checked by the others, told them, and only when one has it kept here; then as above
//! ```
//! What is sealed in the generation that leaves a node out is not sealed to it, and names another cluster secret. When the nodes seal their
//! heartbeats with that is the cluster thread's to decide: once all that live could open it, and who goes is gone.

use std::path::Path;

use tracing::warn;

use super::join::nodes_of;
use super::nodes::{Found, Network};
use super::state::Words;
use super::{AT_ONCE, Applier, Refused, SharedConfig};
use crate::agent::events::Note;
use crate::clock::Time;
use crate::config::told;
use crate::control::api::{Applied, Removed};
use crate::shared::draft::{self, Draft};
use crate::shared::founding::without_node;
use crate::shared::generation::Generation;
use crate::shared::origin::InForce;
use crate::shared::record::{SignedRecord, Word};

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// Leaves a node out, whether it is reached or not.
    pub(super) async fn remove(&self, node: &str, comment: String) -> Result<Removed, Refused> {
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let (before, draft) = {
            let state = self.state.lock().await;
            let before = state.in_force()?;
            let names: Vec<&str> =
                before.config.cluster.nodes.iter().map(|node| node.name.as_str()).collect();
            if !names.contains(&node) {
                return Err(Refused::NoNode { node: node.to_owned(), nodes: names.join(", ") });
            }
            if state.local.file.name == node {
                return Err(if names.len() == 1 { state.last_node() } else { Refused::Oneself });
            }
            let draft = without(node, &state.generation(before.id)?, &before)?;
            (before, draft)
        };
        let comment = if comment.is_empty() { format!("{node} is removed") } else { comment };
        let known = draft::facts(&draft.text, &before.secrets);
        let brought = self.bring_in(&before, draft, Words { comment, restores: None }, AT_ONCE).await?;
        let told = brought.dismissed.iter().any(|dismissed| dismissed == node);
        Ok(Removed { node: node.to_owned(), told, applied: brought.applied, known })
    }

    /// Leaves this node out. Nothing is kept here before another node has it: else nobody might know of it but who has gone.
    pub(super) async fn leave(&self, comment: String) -> Result<Removed, Refused> {
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let (node, generation, record, known) = {
            let state = self.state.lock().await;
            let (before, node) = (state.in_force()?, state.local.file.name.clone());
            if before.config.cluster.nodes.len() == 1 {
                return Err(state.last_node());
            }
            state.may_follow(before.id)?;
            let draft = without(&node, &state.generation(before.id)?, &before)?;
            let known = draft::facts(&draft.text, &before.secrets);
            let draft = draft.with_next_secret(&random()?)?;
            let comment = if comment.is_empty() { format!("{node} leaves") } else { comment };
            let generation =
                state.make(&draft, draft::roster(&draft.text)?, Words { comment, restores: None })?;
            let record = state.word(generation.id(), Word::InForce, "");
            (node, generation, record, known)
        };
        let found = self.ask_all(&generation).await?;
        let applied = self.hand_in(&generation, &record, found).await?;
        let _one_at_a_time = self.following.lock().await;
        {
            let mut state = self.state.lock().await;
            tokio::task::block_in_place(|| state.keep(&generation, &record))?;
        }
        self.heed_removal().await;
        Ok(Removed { node, told: true, applied, known })
    }

    /// Tells the others of a generation that this node will not work with. An error: none of them has it.
    async fn hand_in(
        &self,
        generation: &Generation,
        record: &SignedRecord,
        found: Found,
    ) -> Result<Applied, Refused> {
        let Found { sound, unreached } = found;
        if sound.is_empty() {
            return Err(Refused::Alone { unreached: unreached.join(", ") });
        }
        let late = self.tell_all(generation, record).await;
        let on: Vec<String> = sound.into_iter().filter(|node| !late.contains(node)).collect();
        if on.is_empty() {
            return Err(Refused::Alone { unreached: late.join(", ") });
        }
        let generation = generation.id().to_string();
        Ok(Applied { generation, on, unreached: late, ..Applied::default() })
    }

    /// Another cluster secret, and nothing else.
    pub(super) async fn rotate_secret(&self, comment: String) -> Result<Applied, Refused> {
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let (before, draft) = {
            let state = self.state.lock().await;
            let before = state.in_force()?;
            let text = state.generation(before.id)?.content.text;
            let draft = Draft { text, secrets: before.secrets.clone(), kept: Vec::new() };
            (before, draft.with_next_secret(&random()?)?)
        };
        let epoch = draft.secrets.epoch;
        let comment = if comment.is_empty() { format!("cluster secret number {epoch}") } else { comment };
        Ok(self.bring_in(&before, draft, Words { comment, restores: None }, AT_ONCE).await?.applied)
    }

    /// Ends this node's part, if the cluster goes on without it. True: it does.
    pub(super) async fn heed_removal(&self) -> bool {
        let why = {
            let mut state = self.state.lock().await;
            let Some(removal) = state.local.removal() else { return false };
            let (id, why) = (removal.id(), told(&state.local.removed_by(removal)));
            let objection = Some((id, why.clone()));
            if state.objection == objection {
                return true;
            }
            state.objection = objection;
            self.tell(&state);
            why
        };
        warn!("{why}");
        self.events.push(Note::new("node-removed", true, why));
        self.applier.dismiss().await;
        true
    }

    /// These nodes do not list this one, and no other is reached: it was removed while it was off, or has not been told of yet.
    pub(in crate::agent) fn unlisted_by(&self, nodes: &str) {
        let text = format!(
            "{nodes} does not list this node's keys, and shares nothing with it; hint: if it was removed while it was off, stop this agent, clear this host: rollcall leave --forgotten, and join anew"
        );
        warn!("{text}");
        self.events.push(Note::new("node-unlisted", true, text));
    }

    /// Somebody answers in a node's place whose key is another.
    pub(in crate::agent) fn other_key(&self, why: &str) {
        warn!("{why}");
        self.events.push(Note::new("node-other-key", true, why));
    }

    /// Whether a node that has left is talked to still.
    pub(in crate::agent) async fn sees_off(&self) -> bool {
        self.state.lock().await.guest.is_some()
    }

    /// Who has left is talked to no more, once it has heard that this node knows.
    pub(in crate::agent) async fn see_off(&self) {
        let mut state = self.state.lock().await;
        if state.guest.take_if(|until| *until <= Time::now()).is_none() {
            return;
        }
        let text = state.generation(state.applied).map(|generation| generation.content.text);
        let cluster = text
            .ok()
            .and_then(|text| crate::config::cluster_of(text.as_bytes(), Path::new("the configuration")).ok());
        if let Some(cluster) = cluster {
            self.network.follow(nodes_of(&cluster.nodes));
        }
    }

    /// Waits until no change is being made on this node.
    pub(in crate::agent) async fn at_rest(&self) {
        drop(self.turn.lock().await);
    }
}

/// What stays of a generation without a node.
fn without(node: &str, of: &Generation, before: &InForce) -> Result<Draft, Refused> {
    let text = without_node(&of.content.text, node).map_err(draft::DraftError::Toml)?;
    Ok(Draft { text, secrets: before.secrets.clone(), kept: Vec::new() })
}

/// Bytes that nobody can guess.
pub(super) fn random() -> Result<[u8; 32], Refused> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Refused::NoRandom)?;
    Ok(bytes)
}
