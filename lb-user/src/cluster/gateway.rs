//! Whether the gateway answers this node, and whether that sets it apart: a node that lost the gateway hands its share over
//! while another still has it. Not how it is asked, nor what follows (`node.rs`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// The gateway, as this node sees it.
///
/// ```text
///          unanswered for 3 s                2 s later another ready node still has it
///  Answers ------------------> Lost ---------------------------------------------------> CutOff
///     ^                          | it answers                                              |
///     `--------------------------'                                                         |
///     ^        it has answered for 2 s, or nobody else has had it for as long              |
///     `------------------------------------------------------------------------------------'
/// ```
/// All lose a router that restarts within a second of each other, and then nobody is set apart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Gateway {
    /// Whether there is one.
    known: bool,
    /// Since when this node has served and asked; `None`: it does not serve.
    asks_since: Option<Time>,
    answered: Option<Time>,
    asked: Option<Time>,
    lost: bool,
    cut_off: bool,
    /// Since when everything has spoken for the other judgement on being cut off.
    turn: Option<Time>,
}

/// What is new of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It no longer answers.
    Lost,
    /// It answers again.
    Found,
    /// This node is set apart by its loss, or no longer.
    CutOff(bool),
}

impl Gateway {
    /// `known`: whether the configuration or the host names one.
    pub(crate) fn new(known: bool) -> Self {
        Self { known, asks_since: None, answered: None, asked: None, lost: false, cut_off: false, turn: None }
    }

    /// It answered.
    pub(crate) fn handle_answer(&mut self, now: Time) {
        self.answered = Some(now);
    }

    /// Whether to ask now: each second, and four times a second while an answer is missing.
    pub(crate) fn asks(&mut self, now: Time) -> bool {
        let Some(asked) = self.asked.filter(|_| self.known && self.asks_since.is_some()) else {
            self.asked = self.asks_since.filter(|_| self.known).map(|_| now);
            return self.asked.is_some();
        };
        let missing = self.answered.is_none_or(|answered| answered < asked);
        let pace = if missing { EAGER } else { CALM };
        let due = now.since(asked) >= pace;
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// Judges. `serves`: whether this node does; `others`: whether another ready node that serves has the gateway.
    pub(crate) fn handle_timeout(&mut self, serves: bool, others: bool, now: Time) -> Vec<News> {
        if !serves || !self.known {
            *self = Self::new(self.known);
            return Vec::new();
        }
        let since = *self.asks_since.get_or_insert(now);
        let last = self.answered.map_or(since, |answered| answered.max(since));
        let mut news = Vec::new();
        let lost = now.since(last) >= PATIENCE;
        if lost != self.lost {
            self.lost = lost;
            news.push(if lost { News::Lost } else { News::Found });
        }
        let cut_off = lost && others;
        if cut_off == self.cut_off {
            self.turn = None;
        } else if now.since(*self.turn.get_or_insert(now)) >= CERTAINTY {
            self.cut_off = cut_off;
            self.turn = None;
            news.push(News::CutOff(cut_off));
        }
        news
    }

    /// Whether it answers.
    pub(crate) fn answers(&self) -> bool {
        self.known && !self.lost && self.answered.is_some()
    }

    /// Whether its loss sets this node apart.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off
    }
}

const CALM: Duration = Duration::from_secs(1);
const EAGER: Duration = Duration::from_millis(250);

/// It is lost after this time without an answer: ten questions.
const PATIENCE: Duration = Duration::from_secs(3);

/// So long must it look otherwise before that counts. Others may have lost it, too, and find out up to a second later.
const CERTAINTY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through half seconds, a character each: whether the gateway answers in it (`+`, `-`), and whether another has it (upper row).
    /// What is new, with the half second in which it was.
    fn play(others: &str, answers: &str) -> Vec<(usize, News)> {
        let mut gateway = Gateway::new(true);
        let mut news = Vec::new();
        for (step, (others, answers)) in others.chars().zip(answers.chars()).enumerate() {
            let now = Time::from_nanos(1_000_000_000 + step as u64 * 500_000_000);
            if answers == '+' {
                gateway.handle_answer(now);
            }
            news.extend(gateway.handle_timeout(true, others == '+', now).into_iter().map(|new| (step, new)));
        }
        news
    }

    #[test]
    fn a_node_steps_down_for_a_gateway_that_another_still_has() {
        let news = play("++++++++++++++++++++++++", "++---------------+++++++");
        let expected =
            [(7, News::Lost), (11, News::CutOff(true)), (17, News::Found), (21, News::CutOff(false))];
        assert_eq!(news, expected);
    }

    #[test]
    fn a_router_that_restarts_sets_nobody_apart() {
        // The others find out a second later.
        assert_eq!(
            play("+++++++++-----------++++", "++-----------------+++++"),
            [(7, News::Lost), (19, News::Found)]
        );
    }

    #[test]
    fn once_nobody_has_it_nobody_is_apart_any_more() {
        let news = play("+++++++++++++-------", "++------------------");
        assert_eq!(news, [(7, News::Lost), (11, News::CutOff(true)), (17, News::CutOff(false))]);
    }

    #[test]
    fn without_a_gateway_or_a_share_nothing_is_judged_or_asked() {
        let now = Time::from_nanos(1_000_000_000);
        for (known, serves) in [(false, true), (true, false)] {
            let mut gateway = Gateway::new(known);
            for second in 0..20 {
                assert_eq!(gateway.handle_timeout(serves, true, now + CALM * second), [], "{known} {serves}");
                assert!(!gateway.asks(now + CALM * second), "{known} {serves}");
            }
        }
    }

    #[test]
    fn it_is_asked_each_second_and_more_often_while_it_does_not_answer() {
        let mut gateway = Gateway::new(true);
        let start = Time::from_nanos(1_000_000_000);
        let mut asked = Vec::new();
        for step in 0..40u32 {
            let now = start + Duration::from_millis(100) * step;
            gateway.handle_timeout(true, false, now);
            if gateway.asks(now) {
                asked.push(step);
                if step < 15 {
                    gateway.handle_answer(now);
                }
            }
        }
        assert_eq!(asked, [0, 10, 20, 23, 26, 29, 32, 35, 38]);
    }
}
