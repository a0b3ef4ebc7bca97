//! What nodes say to each other over a connection. The one that connected asks; the other answers.

use super::frame::Frame;
use super::{MAX_MESSAGE, MAX_STRANGER};

/// A word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A question, by a number that is the asker's own.
    Question {
        /// Its number.
        number: u64,
        /// What is asked.
        bytes: Vec<u8>,
    },
    /// Its answer.
    Answer {
        /// The question's number.
        number: u64,
        /// What is answered.
        bytes: Vec<u8>,
    },
    /// There is no answer: the agent gave none.
    Refused {
        /// The question's number.
        number: u64,
    },
    /// There is no answer: too many questions are open.
    Busy {
        /// The question's number.
        number: u64,
    },
    /// Are you there?
    Ping {
        /// Its number.
        number: u64,
    },
    /// I am.
    Pong {
        /// Of the `Ping`.
        number: u64,
    },
}

impl Message {
    /// As a frame.
    pub fn into_frame(self) -> Frame {
        let empty = Vec::new;
        let (kind, number, body) = match self {
            Self::Question { number, bytes } => (QUESTION, number, bytes),
            Self::Answer { number, bytes } => (ANSWER, number, bytes),
            Self::Refused { number } => (REFUSED, number, empty()),
            Self::Busy { number } => (BUSY, number, empty()),
            Self::Ping { number } => (PING, number, empty()),
            Self::Pong { number } => (PONG, number, empty()),
        };
        Frame { kind, number, body }
    }

    /// What a frame says that was let through by one of the limits below; `None`: nothing known.
    pub fn of_frame(frame: Frame) -> Option<Self> {
        let Frame { kind, number, body: bytes } = frame;
        match kind {
            QUESTION => Some(Self::Question { number, bytes }),
            ANSWER => Some(Self::Answer { number, bytes }),
            REFUSED => Some(Self::Refused { number }),
            BUSY => Some(Self::Busy { number }),
            PING => Some(Self::Ping { number }),
            PONG => Some(Self::Pong { number }),
            _ => None,
        }
    }
}

/// What a listed node may say that connected.
pub fn of_node(kind: u8) -> Option<usize> {
    match kind {
        QUESTION => Some(MAX_MESSAGE),
        PING => Some(0),
        _ => None,
    }
}

/// What a stranger may say.
pub fn of_stranger(kind: u8) -> Option<usize> {
    match kind {
        QUESTION => Some(MAX_STRANGER),
        PING => Some(0),
        _ => None,
    }
}

/// What may come back from whom this node connected to.
pub fn of_asked(kind: u8) -> Option<usize> {
    match kind {
        ANSWER => Some(MAX_MESSAGE),
        REFUSED | BUSY | PONG => Some(0),
        _ => None,
    }
}

const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
const REFUSED: u8 = 3;
const BUSY: u8 = 4;
const PING: u8 = 5;
const PONG: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Message; 6] {
        let number = 7;
        [
            Message::Question { number, bytes: vec![1, 2] },
            Message::Answer { number, bytes: vec![] },
            Message::Refused { number },
            Message::Busy { number },
            Message::Ping { number },
            Message::Pong { number },
        ]
    }

    #[test]
    fn every_word_is_a_frame_and_back() {
        for message in all() {
            assert_eq!(Message::of_frame(message.clone().into_frame()), Some(message));
        }
        for kind in [0, 7, 255] {
            assert_eq!(Message::of_frame(Frame { kind, number: 1, body: vec![] }), None);
        }
    }

    #[test]
    fn each_end_may_say_its_own_words_and_strangers_short_ones() {
        let kinds: Vec<u8> = all().map(|message| message.into_frame().kind).to_vec();
        let allowed =
            |limits: fn(u8) -> Option<usize>| kinds.iter().map(|kind| limits(*kind)).collect::<Vec<_>>();
        let long = Some(MAX_MESSAGE);
        assert_eq!(allowed(of_node), [long, None, None, None, Some(0), None]);
        assert_eq!(allowed(of_stranger), [Some(MAX_STRANGER), None, None, None, Some(0), None]);
        assert_eq!(allowed(of_asked), [None, long, Some(0), Some(0), None, Some(0)]);
    }
}
