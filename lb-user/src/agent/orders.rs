//! What operators want of nodes, from a request to what each node answered: which wish it is, of which owner table, and who is
//! told. Whether a node does it is the core's (`cluster/node/mandate.rs`).

pub(super) mod keep;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::status::name;
use crate::cluster::driver::{Handle, Input};
use crate::cluster::node::Snapshot;
use crate::cluster::operate::{Denied, Wish};
use crate::cluster::peer::Standing;
use crate::config::model::{Config, Priority};
use crate::control::api::{Action, Nodes, Operated};

/// How long a node's answer is waited for: longer than the core repeats a question.
const ANSWER: Duration = Duration::from_secs(4);

/// Who waits for the answers to wishes, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<BTreeMap<u32, oneshot::Sender<Option<Denied>>>>);

impl Answers {
    /// What the core says became of a wish.
    pub(super) fn wished(&self, id: u32, denied: Option<Denied>) {
        if let Some(waiting) = self.lock().remove(&id) {
            // The operator may be gone.
            let _ = waiting.send(denied);
        }
    }

    /// Tells `to` by way of the cluster thread, and waits for its answer.
    async fn ask(&self, cluster: &Handle, to: Priority, wish: Wish) -> Option<Denied> {
        let mut bytes = [0; 4];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            return Some(Denied::Unanswered);
        }
        let id = u32::from_le_bytes(bytes);
        let (sender, answer) = oneshot::channel();
        self.lock().insert(id, sender);
        cluster.tell(Input::Wish { id, to, wish });
        let answer = timeout(ANSWER, answer).await;
        self.lock().remove(&id);
        answer.ok().and_then(Result::ok).unwrap_or(Some(Denied::Unanswered))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, oneshot::Sender<Option<Denied>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be said to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    wish: Wish,
    to: Vec<Priority>,
    /// The port rule, if it is for one alone.
    rule: Option<String>,
}

impl Order {
    /// What a request means; an error is a sentence for the operator, and nothing was done.
    pub(super) fn read(
        action: &Action,
        nodes: &Nodes,
        rule: Option<&str>,
        config: &Config,
        snapshot: &Snapshot,
    ) -> Result<Self, String> {
        let found = rule.map(|rule| rule::find(config, rule)).transpose()?;
        let wish = wish(action, found.as_ref(), config)?;
        let to = match (action, nodes) {
            (Action::Forget { node }, _) => witnesses(config, snapshot, node),
            (_, Nodes::This) => vec![config.me().priority],
            (_, Nodes::Named(wanted)) => vec![node(config, wanted)?],
            (_, Nodes::All) => config.cluster.nodes.iter().map(|node| node.priority).collect(),
        };
        Ok(Self { wish, to, rule: found.map(|found| found.name) })
    }

    /// Tells them, all at once.
    pub(super) async fn carry_out(
        self,
        cluster: &Handle,
        answers: &Answers,
        config: &Config,
    ) -> Vec<Operated> {
        let mut asked = Vec::new();
        for to in &self.to {
            asked.push(answers.ask(cluster, *to, self.wish));
        }
        let denied = all(asked).await;
        let became = |(to, denied): (&Priority, Option<Denied>)| Operated {
            node: name(config, *to),
            done: denied.is_none(),
            text: match denied {
                None => self.done(config),
                Some(denied) => denied.sentence(|node| name(config, node)),
            },
        };
        self.to.iter().zip(denied).map(became).collect()
    }

    fn done(&self, config: &Config) -> String {
        let what = match self.wish {
            Wish::Start { .. } | Wish::Resume => "takes a share",
            Wish::Stop { .. } => "stops: its share goes to the others",
            Wish::Drain { .. } => "drains: its share goes to the others",
            Wish::Suspend => "is suspended until `rollcall resume` on it",
            Wish::SetWeight { weight: Some(weight), .. } => &format!("has the weight {weight}"),
            Wish::SetWeight { weight: None, .. } => "has the weight of the configuration",
            Wish::SetRank { rank: Some(rank) } => &format!("has the priority {rank}"),
            Wish::SetRank { rank: None } => "has the priority of the configuration",
            Wish::FailBack => "waits no longer for its share",
            Wish::Forget { node } => &format!("counts {} as gone", name(config, node)),
            Wish::Restart => "ends its agent in good order and starts it anew",
        };
        self.rule.as_ref().map_or_else(|| what.to_owned(), |rule| format!("{what}, for {rule}"))
    }
}

/// Waits for all of them at once.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

fn wish(action: &Action, rule: Option<&rule::Found>, config: &Config) -> Result<Wish, String> {
    let table = rule.map(|rule| rule.table);
    let wish = match action {
        Action::Start => Wish::Start { table },
        Action::Stop => Wish::Stop { table },
        Action::Drain => Wish::Drain { table },
        Action::SetWeight { weight } => {
            weight_fits(*weight, rule)?;
            Wish::SetWeight { table, weight: *weight }
        }
        Action::Suspend => Wish::Suspend,
        Action::Resume => Wish::Resume,
        Action::Failback => Wish::FailBack,
        Action::SetPriority { priority: None } => Wish::SetRank { rank: None },
        Action::SetPriority { priority: Some(number) } => {
            let rank = Priority::new(*number)
                .ok_or_else(|| format!("{number} is no host priority; they are 1 to {}", Priority::MAX))?;
            Wish::SetRank { rank: Some(rank) }
        }
        Action::Forget { node: wanted } => Wish::Forget { node: node(config, wanted)? },
        Action::Restart => Wish::Restart,
    };
    let of_rules = match wish {
        Wish::Start { .. } | Wish::Stop { .. } | Wish::Drain { .. } | Wish::SetWeight { .. } => true,
        Wish::Suspend | Wish::Resume | Wish::SetRank { .. } => false,
        Wish::FailBack | Wish::Forget { .. } | Wish::Restart => false,
    };
    if table.is_some() && !of_rules {
        return Err("that is for a node as a whole; of one rule there are start, stop, drain and set weight"
            .to_owned());
    }
    Ok(wish)
}

fn weight_fits(weight: Option<u8>, rule: Option<&rule::Found>) -> Result<(), String> {
    if let Some(rule) = rule.filter(|rule| !rule.weighted) {
        return Err(format!(
            "{} goes to one node alone, so weights mean nothing to it; hint: `handling_priorities` say to which",
            rule.name
        ));
    }
    match weight {
        Some(weight) if weight > 100 => Err(format!("{weight} is no load weight; they are 0 to 100")),
        Some(_) | None => Ok(()),
    }
}

/// Who is to know that a node is gone: this node, and all others that are heard.
fn witnesses(config: &Config, snapshot: &Snapshot, gone: &str) -> Vec<Priority> {
    let heard = |priority: Priority| {
        priority == config.me().priority
            || snapshot.peers.iter().any(|peer| peer.node == priority && peer.standing == Standing::Alive)
    };
    let nodes = config.cluster.nodes.iter();
    nodes.filter(|node| node.name != gone && heard(node.priority)).map(|node| node.priority).collect()
}

/// The node with this name, or a sentence that names those that there are.
pub(super) fn node(config: &Config, wanted: &str) -> Result<Priority, String> {
    let nodes = &config.cluster.nodes;
    nodes.iter().find(|node| node.name == wanted).map(|node| node.priority).ok_or_else(|| {
        let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        format!("no node is named {wanted}; the nodes are {}", known.join(", "))
    })
}
