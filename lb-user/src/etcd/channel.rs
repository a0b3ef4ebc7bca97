//! What agent and child say to each other over their socket pair, as frames (`peer::frame`). Pure.

use std::time::Duration;

use thiserror::Error;

use super::Settings;
use crate::peer::MAX_MESSAGE;
use crate::peer::frame::Frame;

/// What the agent tells the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// Begin. The first one, and sent once.
    Start(Box<Settings>),
    /// Ask this of etcd; answered by `Up::Returned`. One at a time.
    Call {
        /// Numbers the answer.
        number: u64,
        /// How long an answer is worth having.
        within: Duration,
        /// A `Request`.
        bytes: Vec<u8>,
    },
}

/// What the child tells the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Up {
    /// Sent every second: it lives.
    Alive,
    /// Something changed in etcd, or between here and there: it is worth asking.
    News,
    /// What became of a `Down::Call`: a `Reply`, or why there is none.
    Returned {
        /// The call's number.
        number: u64,
        /// The answer.
        result: Result<Vec<u8>, String>,
    },
}

impl Down {
    /// As a frame.
    pub fn into_frame(self) -> Frame {
        match self {
            Self::Start(settings) => {
                // Texts and numbers can be written as JSON.
                Frame { kind: START, number: 0, body: serde_json::to_vec(&settings).unwrap_or_default() }
            }
            Self::Call { number, within, bytes } => {
                let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                Frame { kind: CALL, number, body: [&within.to_be_bytes()[..], &bytes].concat() }
            }
        }
    }

    /// What a frame says.
    pub fn of_frame(frame: Frame) -> Result<Self, ChannelError> {
        let Frame { kind, number, body } = frame;
        match kind {
            START => {
                let settings = serde_json::from_slice(&body).map_err(|_| ChannelError { kind })?;
                Ok(Self::Start(Box::new(settings)))
            }
            CALL => {
                let (within, bytes) = body.split_first_chunk().ok_or(ChannelError { kind })?;
                let within = Duration::from_millis(u64::from_be_bytes(*within));
                Ok(Self::Call { number, within, bytes: bytes.to_vec() })
            }
            _ => Err(ChannelError { kind }),
        }
    }

    /// Longest body of each kind.
    pub fn limits(kind: u8) -> Option<usize> {
        match kind {
            START => Some(LONGEST_START),
            CALL => Some(MAX_MESSAGE + 8),
            _ => None,
        }
    }
}

impl Up {
    /// As a frame.
    pub fn into_frame(self) -> Frame {
        let (kind, number, body) = match self {
            Self::Alive => (ALIVE, 0, Vec::new()),
            Self::News => (NEWS, 0, Vec::new()),
            Self::Returned { number, result: Ok(bytes) } => (RETURNED, number, bytes),
            Self::Returned { number, result: Err(why) } => {
                let why: String = why.chars().take(LONGEST_WHY / 4).collect();
                (FAILED, number, why.into_bytes())
            }
        };
        Frame { kind, number, body }
    }

    /// What a frame says. The bytes are hostile.
    pub fn of_frame(frame: Frame) -> Result<Self, ChannelError> {
        let Frame { kind, number, body } = frame;
        match kind {
            ALIVE => Ok(Self::Alive),
            NEWS => Ok(Self::News),
            RETURNED => Ok(Self::Returned { number, result: Ok(body) }),
            FAILED => {
                let why = String::from_utf8(body).map_err(|_| ChannelError { kind })?;
                // It is shown to operators.
                if why.chars().any(char::is_control) {
                    return Err(ChannelError { kind });
                }
                Ok(Self::Returned { number, result: Err(why) })
            }
            _ => Err(ChannelError { kind }),
        }
    }

    /// Longest body of each kind.
    pub fn limits(kind: u8) -> Option<usize> {
        match kind {
            ALIVE | NEWS => Some(0),
            RETURNED => Some(MAX_MESSAGE),
            FAILED => Some(LONGEST_WHY),
            _ => None,
        }
    }
}

/// A frame is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a message of kind {kind} has a wrong field, or there is no such kind")]
pub struct ChannelError {
    /// What it says it is.
    pub kind: u8,
}

const START: u8 = 1;
const CALL: u8 = 2;

const ALIVE: u8 = 101;
const NEWS: u8 = 102;
const RETURNED: u8 = 103;
const FAILED: u8 = 104;

/// Three files of 1 MiB, each character of which JSON may write as six, and all else.
const LONGEST_START: usize = 20 << 20;

/// Longest reason, bytes.
const LONGEST_WHY: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::model::Endpoint;

    #[test]
    fn what_is_said_survives_its_frame() {
        let settings = Settings {
            endpoints: vec![Endpoint { tls: true, address: "10.0.0.11:2379".parse().unwrap() }],
            prefix: "/rollcall".to_owned(),
            ca: "ca".to_owned(),
            identity: Some(("certificate".to_owned(), "key".to_owned())),
            user: Some(("rollcall".to_owned(), "pass\"word".to_owned())),
        };
        assert!(!format!("{settings:?}").contains("word"), "{settings:?}");
        for down in [
            Down::Start(Box::new(settings)),
            Down::Call { number: 7, within: Duration::from_millis(12), bytes: vec![1, 2] },
        ] {
            assert_eq!(Down::of_frame(down.clone().into_frame()), Ok(down));
        }
        for up in [
            Up::Alive,
            Up::News,
            Up::Returned { number: 3, result: Ok(vec![4]) },
            Up::Returned { number: 3, result: Err("no way".to_owned()) },
        ] {
            assert_eq!(Up::of_frame(up.clone().into_frame()), Ok(up));
        }
    }

    #[test]
    fn a_reason_that_steers_a_terminal_is_no_message() {
        for body in [b"a\x1b[2J".to_vec(), b"a\nb".to_vec(), vec![0xff]] {
            let frame = Frame { kind: FAILED, number: 1, body };
            assert_eq!(Up::of_frame(frame), Err(ChannelError { kind: FAILED }));
        }
        let long = Up::Returned { number: 1, result: Err("\u{10ffff}".repeat(9000)) }.into_frame();
        assert!(long.body.len() <= LONGEST_WHY);
    }

    proptest! {
        #[test]
        fn no_frame_panics(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let frame = Frame { kind, number: 1, body };
            let _ = (Up::of_frame(frame.clone()), Down::of_frame(frame));
        }
    }
}
