//! A change on trial: this node alone works with it, until the operator confirms it or the time for that is over.
//!
//! ```text
//! apply --confirm-within: checked by every node that is reached, then at work here, and nowhere on a disk
//!     config confirm in time -> checked anew -> in force on all nodes, as any change
//!     nobody confirms, another change comes into force, or this agent ends -> the generation in force is at work again
//! ```
//! So an operator who has locked himself out with a change has to do nothing at all.

use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::{Applier, Change, Found, Network, Outlook, Places, Refused, SharedConfig};
use crate::agent::events::Note;
use crate::clock::Time;
use crate::control::api::{Applied, GenerationEntry};
use crate::shared::generation::{Generation, GenerationId};
use crate::wall::WallTime;

/// What is on trial.
pub(super) struct Trial {
    pub(super) generation: Generation,
    /// What it follows: the generation in force when it began.
    pub(super) parent: GenerationId,
    /// Until when it has to be confirmed.
    pub(super) until: Time,
    /// The same, for people.
    pub(super) confirm_by: WallTime,
    /// The node that this one tries it for.
    pub(super) author: Option<String>,
}

/// A generation that this node is to try.
pub(super) struct Attempt<'a> {
    pub(super) parent: GenerationId,
    pub(super) generation: &'a Generation,
    pub(super) places: Places,
    pub(super) within: Duration,
    /// The node that it is tried for; `None`: this one.
    pub(super) author: Option<&'a str>,
}

impl Trial {
    /// For the log: nobody has put it in force.
    pub(super) fn entry(&self) -> GenerationEntry {
        let (id, header) = (self.generation.id(), self.generation.head.header());
        GenerationEntry {
            id: id.to_string(),
            parent: header.parent.map(|parent| parent.to_string()),
            height: header.height,
            author: header.author.clone(),
            time: WallTime::from_unix_ms(header.time),
            comment: header.comment.clone(),
            restores: header.restores.map(|id| id.to_string()),
            standing: "candidate".to_owned(),
            at_work: true,
            whole: true,
        }
    }
}

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// Whether this could be tried on one node alone.
    pub(super) fn may_be_tried(outlook: &Outlook) -> Result<(), Refused> {
        if outlook.together {
            return Err(Refused::Together(outlook.changed.join(", ")));
        }
        let anew: Vec<&str> = outlook.renewed.iter().chain(&outlook.restart).map(String::as_str).collect();
        if anew.is_empty() { Ok(()) } else { Err(Refused::Untried(anew.join(", "))) }
    }

    /// Has this node alone work with it.
    pub(super) async fn try_out(&self, attempt: Attempt<'_>, examined: A::Examined) -> Result<(), Refused> {
        let Attempt { parent, generation, places, within, author } = attempt;
        let _one_at_a_time = self.following.lock().await;
        self.state.lock().await.may_follow(parent)?;
        self.applier.adopt(examined).await?;
        let text = format!(
            "generation {} of the configuration is on trial on this node alone, for {within:?} from now",
            generation.id().short()
        );
        info!("{text}");
        self.events.push(Note::new("configuration-on-trial", false, text));
        let mut state = self.state.lock().await;
        state.applied = generation.id();
        // What nodes must agree on, the nodes among it, is not tried.
        state.follow_store(places.store, &self.network);
        let (until, confirm_by) = (Time::now() + within, WallTime::now().after(within));
        let (generation, author) = (generation.clone(), author.map(str::to_owned));
        state.trial = Some(Trial { generation, parent, until, confirm_by, author });
        self.tell(&state);
        drop(state);
        self.trials.notify_one();
        Ok(())
    }

    /// The operator is content with what is on trial: all nodes are to work with it.
    pub(super) async fn confirm(&self) -> Result<Applied, Refused> {
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let (parent, generation) = {
            let state = self.state.lock().await;
            let trial = state.trial.as_ref().ok_or(Refused::NoTrial)?;
            (trial.parent, trial.generation.clone())
        };
        // It is at work already: what could not be changed has been.
        let (examined, places, found) = self.look_again(parent, &generation).await?;
        // It leaves nobody out, or it could not have been tried.
        let change = Change { generation: &generation, places: &places, removed: &[] };
        Ok(self.bring_all(parent, change, examined, found, Vec::new()).await?.applied)
    }

    /// Finds what is on trial sound once more: others may have changed something meanwhile.
    pub(super) async fn look_again(
        &self,
        parent: GenerationId,
        generation: &Generation,
    ) -> Result<((A::Examined, Outlook), Places, Found), Refused> {
        let read = {
            let state = self.state.lock().await;
            state.may_follow(parent)?;
            state.local.read(generation)?
        };
        let places = Places::of(&read.config);
        let examined = self.applier.examine(read.config).await?;
        Ok((examined, places, self.ask_all(generation).await?))
    }

    /// Ends what is on trial when its time is over. Never returns.
    pub(in crate::agent) async fn mind_trials(&self) {
        loop {
            let until = self.state.lock().await.trial.as_ref().map(|trial| trial.until);
            let Some(until) = until else {
                self.trials.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep(until.since(Time::now())) => self.end_trial(until).await,
                () = self.trials.notified() => {}
            }
        }
    }

    /// Nobody has confirmed what was to be until then.
    pub(super) async fn end_trial(&self, until: Time) {
        // A change that is being made may be its confirmation.
        let turn = self.turn.lock().await;
        let why = |trial: &Trial| match &trial.author {
            None => "nobody confirmed it".to_owned(),
            Some(author) => format!("nothing is heard of {author}, which wanted to know how it does"),
        };
        self.end_trial_if(why, |trial| trial.until == until).await;
        drop(turn);
    }

    /// Has this node work with what is in force again, if this is what it tries.
    pub(super) async fn end_trial_if(&self, why: impl Fn(&Trial) -> String, is_it: impl Fn(&Trial) -> bool) {
        let ended = self.state.lock().await.trial.take_if(|trial| is_it(trial));
        if let Some(trial) = ended {
            self.trials.notify_one();
            let text = format!(
                "generation {} of the configuration is tried no more, and the one in force is at work again: {}",
                trial.generation.id().short(),
                why(&trial)
            );
            info!("{text}");
            self.events.push(Note::new("configuration-returned", true, text));
            self.follow().await;
        }
    }
}
