//! A change that nodes need not have in common is tried on one of them, the *canary*, before the others work with it.
//!
//! ```text
//! every node that is reached found it sound -> the canary looks at itself, works with it, and looks again
//!     worse than before                      -> it goes back; the generation is failed, on all nodes, for ever
//!     its clients fare worse than the others' -> likewise
//!     neither                                -> found sound once more -> in force, as any change
//!     the author dies, or is not reached     -> it goes back by itself
//! ```
//! Only the record that a generation is in force outlasts the canary's time: nothing of a trial is on a disk. Where one node answers for
//! all, the canary is one that stands by, and what it finds out of itself is all that is known before.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::warn;

use super::nodes::Network;
use super::trial::{Attempt, Trial};
use super::{Applier, Brought, Change, Found, Outlook, Places, Refused, SharedConfig};
use crate::agent::canary::{Comparison, compare, findings};
use crate::agent::events::Note;
use crate::clock::Time;
use crate::config::told;
use crate::control::api::{Canary, TRIAL};
use crate::proxy::metrics::Tally;
use crate::shared::generation::{Generation, GenerationId};
use crate::shared::message::{Findings, Question, Reply, Work};
use crate::shared::record::Word;

/// How long a node may take to look at itself twice, with servers that it has not tested yet, and to apply in between.
const ATTEMPT: Duration = Duration::from_secs(45);

/// How much longer than it is watched a node works with what it tries of its own: an attempt, and until the word is kept.
const GRACE: Duration = Duration::from_secs(75);

/// How long a node tries something for another without a word of that one: its clients are asked for every second, and what did well is
/// checked by all once more before it is put in force.
const SILENCE: Duration = Duration::from_secs(30);

/// How often clients' fare is looked at: what is plainly bad need not go on.
const LOOK: Duration = Duration::from_secs(1);

/// So many looks in a row that tell nothing of it are the canary's fault.
const MISSED: u32 = 3;

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// Whether there is anything that one node could try.
    pub(super) fn can_be_tried(outlook: &Outlook, removed: &[String]) -> bool {
        removed.is_empty() && !outlook.changed.is_empty() && Self::may_be_tried(outlook).is_ok()
    }

    /// Has one node try a change, and watches it for `watch`; then all are to work with it, as with any. What comes to nothing after all
    /// is on trial no more.
    pub(super) async fn bring_tried(
        &self,
        parent: GenerationId,
        change: Change<'_>,
        (examined, outlook): (A::Examined, Outlook),
        found: Found,
        kept: Vec<String>,
        watch: Duration,
    ) -> Result<Brought, Refused> {
        let Change { generation, places, .. } = change;
        // Meanwhile others may change what they like: it is found sound once more, or it is not.
        self.forget_all(generation.id(), &found.sound).await;
        let places = places.clone();
        let attempt = Attempt { parent, generation, places, within: watch + GRACE, author: None };
        let canary = self.have_tried(attempt, examined, &found.sound, watch).await?;
        let brought = async {
            let ((examined, _), _, found) = self.look_again(parent, generation).await?;
            self.bring_all(parent, change, (examined, outlook), found, kept).await
        };
        match brought.await {
            Ok(mut brought) => {
                brought.applied.canary = Some(canary);
                Ok(brought)
            }
            Err(refused) => {
                self.call_off(&canary.node, generation.id()).await;
                Err(refused)
            }
        }
    }

    /// An error: it went back, and the generation is failed on all nodes.
    async fn have_tried(
        &self,
        attempt: Attempt<'_>,
        examined: A::Examined,
        others: &[String],
        watch: Duration,
    ) -> Result<Canary, Refused> {
        let generation = attempt.generation;
        let me = self.state.lock().await.local.file.name.clone();
        let before = self.works(&me, others).await;
        let node = choose(&me, &before, self.applier.one_answers());
        let tried = if node == me {
            self.attempt(attempt, examined).await?
        } else {
            self.ask_to_try(&node, generation).await?
        };
        let verdict = if tried.worse.is_empty() {
            self.watch_over(&node, &me, &before, watch).await
        } else {
            Err(tried.worse.join("; "))
        };
        match verdict {
            Ok(clients) => Ok(Canary { node, asked: tried.asked, remarks: tried.remarks, clients }),
            Err(why) => {
                self.fail_everywhere(generation, &why).await;
                Err(Refused::Canary { node, why, id: generation.id() })
            }
        }
    }

    /// This node works with a generation for a while, and says whether that goes as well as what it worked with before. If not, it goes
    /// back at once.
    async fn attempt(&self, attempt: Attempt<'_>, examined: A::Examined) -> Result<Findings, Refused> {
        let id = attempt.generation.id();
        let probes = self.applier.probes(&examined);
        let before = self.applier.ask(&probes).await;
        self.try_out(attempt, examined).await?;
        let found = findings(&probes, &before, &self.applier.ask(&probes).await);
        if !found.worse.is_empty() {
            self.go_back(id).await;
        }
        Ok(found)
    }

    /// The answer to a node that wants this one to try something.
    pub(super) async fn try_for(&self, node: &str, bytes: &[u8], seconds: u32) -> Result<Findings, String> {
        let _turn = self.turn.try_lock().map_err(|_| "a change is being made on it at this moment")?;
        let generation = Generation::decode(bytes).map_err(|error| error.to_string())?;
        let (parent, read) = {
            let state = self.state.lock().await;
            state.is_at_rest(Time::now()).map_err(|refused| told(&refused))?;
            (state.current(), state.follower(&generation)?)
        };
        let places = Places::of(&read.config);
        let examined = self.applier.examine(read.config).await.map_err(|refusal| told(&refusal));
        let (examined, outlook) = examined?;
        Self::may_be_tried(&outlook).map_err(|refused| told(&refused))?;
        let (least, most) = TRIAL.into_inner();
        let within = Duration::from_secs(seconds.into()).clamp(least, most);
        let attempt = Attempt { parent, generation: &generation, places, within, author: Some(node) };
        let found = self.attempt(attempt, examined).await;
        self.heard_of(node).await;
        found.map_err(|refused| told(&refused))
    }

    /// What this node tries for that one goes on.
    pub(super) async fn heard_of(&self, node: &str) {
        if let Some(trial) = &mut self.state.lock().await.trial
            && trial.author.as_deref() == Some(node)
        {
            trial.until = trial.until.max(Time::now() + SILENCE);
        }
    }

    async fn ask_to_try(&self, node: &str, generation: &Generation) -> Result<Findings, Refused> {
        let seconds = u32::try_from(SILENCE.as_secs()).unwrap_or(u32::MAX);
        let question = Question::Try { generation: generation.encode(), seconds }.encode();
        let why = match self.network.call(node, question, ATTEMPT).await.map(|bytes| Reply::decode(&bytes)) {
            Ok(Ok(Reply::Tried(findings))) => return Ok(findings),
            Ok(Ok(Reply::Refused(why))) => why,
            Ok(Ok(_)) => "it answers something else".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(why) => why,
        };
        // Whatever it does, it does it no longer.
        self.forget_all(generation.id(), &[node.to_owned()]).await;
        Err(Refused::Untested { node: node.to_owned(), why })
    }

    /// What the clients of these nodes and of this one get. Who publishes nothing, or is not reached, is not among them.
    async fn works(&self, me: &str, others: &[String]) -> BTreeMap<String, Work> {
        let question = Question::Work.encode();
        let asked = others.iter().map(|node| {
            let question = question.clone();
            async move {
                let answer = self.network.call(node, question, LOOK * 2).await.ok()?;
                let Ok(Reply::Work(work)) = Reply::decode(&answer) else { return None };
                Some((node.clone(), work))
            }
        });
        let (own, others) = tokio::join!(self.applier.work(), join_all(asked));
        own.map(|work| (me.to_owned(), work)).into_iter().chain(others.into_iter().flatten()).collect()
    }

    /// Holds what the canary's clients get against what the others' do. How that went in words; an error: they fare worse.
    async fn watch_over(
        &self,
        canary: &str,
        me: &str,
        before: &BTreeMap<String, Work>,
        watch: Duration,
    ) -> Result<String, String> {
        let answers = |node: &str| before.get(node).is_some_and(|work| work.answers);
        let others: Vec<String> =
            before.keys().filter(|node| *node != canary && answers(node)).cloned().collect();
        if !answers(canary) {
            return Ok("synthetic only: it answers no clients now".to_owned());
        }
        if others.is_empty() {
            return Ok("synthetic only: no other node answers clients now".to_owned());
        }
        let all: Vec<String> = before.keys().filter(|node| *node != me && answers(node)).cloned().collect();
        let first = self.works(me, &all).await;
        let (began, mut missed) = (Time::now(), 0);
        let mut seen = (Tally::default(), Tally::default());
        while Time::now().since(began) < watch {
            sleep(LOOK.min(watch)).await;
            let then = self.works(me, &all).await;
            let Some(here) = sum(&first, &then, std::iter::once(canary)) else {
                missed += 1;
                if missed >= MISSED {
                    return Err("its proxy was started anew, or it is not reached any more".to_owned());
                }
                continue;
            };
            missed = 0;
            let Some(elsewhere) = sum(&first, &then, others.iter().map(String::as_str)) else { continue };
            seen = (here, elsewhere);
            if let Comparison::Worse(what) = compare(here, elsewhere) {
                return Err(what.join("; "));
            }
        }
        let (here, elsewhere) = seen;
        let counts = format!("{} requests there, {} on {}", here.ended, elsewhere.ended, others.join(", "));
        Ok(match compare(here, elsewhere) {
            Comparison::TooFew => {
                format!("synthetic only: too few requests in {watch:?} to compare: {counts}")
            }
            Comparison::Alike | Comparison::Worse(_) => {
                format!("its clients fared as the others' for {watch:?}: {counts}")
            }
        })
    }

    /// Nobody is to work with this generation, now or ever.
    async fn fail_everywhere(&self, generation: &Generation, why: &str) {
        let text = format!(
            "generation {} of the configuration did not do well where it was tried, and is failed: {why}",
            generation.id().short()
        );
        warn!("{text}");
        self.events.push(Note::new("configuration-failed", true, text));
        let record = {
            let mut state = self.state.lock().await;
            let record = state.word(generation.id(), Word::Failed, why);
            if let Err(refused) = tokio::task::block_in_place(|| state.keep(generation, &record)) {
                warn!("that it failed cannot be kept here: {}", told(&refused));
            }
            record
        };
        self.go_back(generation.id()).await;
        // Who does not hear of it goes back when its time is over, and learns why when it asks what is new.
        drop(self.tell_all(generation, &record).await);
    }

    /// What did well comes to nothing all the same: whoever tries it goes back.
    pub(super) async fn call_off(&self, node: &str, id: GenerationId) {
        self.go_back(id).await;
        if self.state.lock().await.local.file.name != node {
            self.forget_all(id, &[node.to_owned()]).await;
        }
    }

    /// Ends the trial of this generation, if that is what this node tries.
    pub(super) async fn go_back(&self, id: GenerationId) {
        let why = |_: &Trial| "it is not to come into force".to_owned();
        self.end_trial_if(why, |trial| trial.generation.id() == id).await;
    }
}

/// Which node tries a change: one whose clients can be looked at; where one answers for all, one that stands by. This node, if it is as good
/// as others.
fn choose(me: &str, works: &BTreeMap<String, Work>, one_answers: bool) -> String {
    let fits = |node: &&str| works.get(*node).is_some_and(|work| work.answers != one_answers);
    let others = works.keys().map(String::as_str).filter(|node| *node != me);
    std::iter::once(me).chain(others).find(fits).unwrap_or(me).to_owned()
}

/// What the clients of these nodes got between two looks, together; `None`: of one of them that is not known.
fn sum<'a>(
    first: &BTreeMap<String, Work>,
    then: &BTreeMap<String, Work>,
    nodes: impl Iterator<Item = &'a str>,
) -> Option<Tally> {
    nodes.map(|node| then.get(node)?.tally.since(first.get(node)?.tally)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_clients_tries_a_change_first_and_where_one_answers_for_all_one_that_does_not() {
        let works = |answering: &[&str]| -> BTreeMap<String, Work> {
            let work = |node: &str| Work { answers: answering.contains(&node), tally: Tally::default() };
            ["arr1", "arr2", "arr3"].map(|node| (node.to_owned(), work(node))).into()
        };
        for (answering, one_answers, chosen) in [
            (&["arr1", "arr2", "arr3"][..], false, "arr2"),
            (&["arr1", "arr3"], false, "arr1"),
            (&[], false, "arr2"),
            (&["arr1"], true, "arr2"),
            (&["arr2"], true, "arr1"),
            (&["arr1", "arr2", "arr3"], true, "arr2"),
        ] {
            assert_eq!(choose("arr2", &works(answering), one_answers), chosen, "{answering:?}");
        }
        assert_eq!(choose("arr2", &BTreeMap::new(), false), "arr2", "nothing is published");
    }
}
