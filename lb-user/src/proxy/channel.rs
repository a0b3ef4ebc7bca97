//! The words between the agent and its proxy child, as bytes. Pure: sockets are in `supervisor` and `worker`.
//!
//! Down (agent to child): frames, a length (`u32`, little endian, at most [`MAX_FRAME`]) and that much JSON. The child trusts
//! them. Up (child to agent): records of [`RECORD_LEN`] bytes. The child speaks with the network, so the agent reads them as
//! hostile: whatever is not exactly a known record is an error, and the child is replaced.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::snapshot::Snapshot;

/// Longest JSON text of a frame, in bytes: hundreds of sites with their certificates.
pub const MAX_FRAME: usize = 4 << 20;

/// Bytes of a record.
pub const RECORD_LEN: usize = 16;

/// Most sockets that one `Start` carries: the kernel's SCM_MAX_FD is 253, and one is the hand-over socket.
pub const MAX_LISTENERS: usize = 252;

/// What the agent tells the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Serve this. The first order, and sent once; its first byte carries the sockets: the listening ones in the order of
    /// `Snapshot::listen`, then the Unix socket on which the child hands them over should the agent die.
    Start(Box<Snapshot>),
    /// Every response ends its connection, idle connections end, and what is in flight ends within the drain timeout; new
    /// connections are still served.
    Drain,
    /// Cancels `Drain`.
    Resume,
    /// Accept no more, finish what is in flight within the drain timeout, report `Drained` and exit.
    Stop,
}

/// What the child tells the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Sent every 250 ms.
    Alive {
        /// Whether connections are accepted.
        accepting: bool,
        /// Open client connections.
        connections: u32,
        /// Requests in flight.
        requests: u32,
    },
    /// A server's health, as its first tests found it and whenever it changes.
    ServerHealth {
        /// Index into `Snapshot::farms`.
        farm: u16,
        /// Index into that farm's servers.
        server: u16,
        /// Whether the health test succeeds.
        healthy: bool,
    },
    /// After `Drain` or `Stop`: no connection is left from before.
    Drained,
}

impl Record {
    /// The record as bytes: magic, kind, flag, two little-endian numbers, zeros.
    pub fn encode(self) -> [u8; RECORD_LEN] {
        let (kind, flag, a, b) = match self {
            Self::Alive { accepting, connections, requests } => (ALIVE, accepting, connections, requests),
            Self::ServerHealth { farm, server, healthy } => {
                (SERVER_HEALTH, healthy, u32::from(farm), u32::from(server))
            }
            Self::Drained => (DRAINED, false, 0, 0),
        };
        let mut bytes = [0; RECORD_LEN];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = kind;
        bytes[3] = u8::from(flag);
        bytes[4..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..12].copy_from_slice(&b.to_le_bytes());
        bytes
    }

    /// The record that `bytes` spell. Every record has exactly one spelling.
    pub fn decode(bytes: [u8; RECORD_LEN]) -> Result<Self, RecordError> {
        let [m0, m1, kind, flag, a0, a1, a2, a3, b0, b1, b2, b3, rest @ ..] = bytes;
        if [m0, m1] != MAGIC {
            return Err(RecordError::Magic);
        }
        let flag = match flag {
            0 => false,
            1 => true,
            2.. => return Err(RecordError::Field { kind }),
        };
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let b = u32::from_le_bytes([b0, b1, b2, b3]);
        let record = match kind {
            ALIVE => Self::Alive { accepting: flag, connections: a, requests: b },
            SERVER_HEALTH => Self::ServerHealth {
                farm: u16::try_from(a).map_err(|_| RecordError::Field { kind })?,
                server: u16::try_from(b).map_err(|_| RecordError::Field { kind })?,
                healthy: flag,
            },
            DRAINED if !flag && a == 0 && b == 0 => Self::Drained,
            DRAINED => return Err(RecordError::Field { kind }),
            unknown => return Err(RecordError::Kind { kind: unknown }),
        };
        if rest != [0; 4] {
            return Err(RecordError::Field { kind });
        }
        Ok(record)
    }
}

/// The frame that carries `order`.
pub fn encode_frame(order: &Order) -> Result<Vec<u8>, FrameError> {
    let json = serde_json::to_vec(order).map_err(FrameError::Json)?;
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MAX_FRAME);
    let length = length.ok_or(FrameError::TooLong { length: json.len() })?;
    let mut frame = Vec::with_capacity(4 + json.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&json);
    Ok(frame)
}

/// Takes the first whole frame out of `buffer`; `None` while it is not complete.
pub fn decode_frame(buffer: &mut Vec<u8>) -> Result<Option<Order>, FrameError> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length });
    }
    let Some(json) = rest.get(..length) else {
        return Ok(None);
    };
    let order = serde_json::from_slice(json).map_err(FrameError::Json)?;
    buffer.drain(..4 + length);
    Ok(Some(order))
}

/// Why bytes from the child are no record. The child is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The first two bytes are wrong.
    #[error("a record from the proxy does not begin as one")]
    Magic,
    /// No such kind.
    #[error("a record from the proxy has the unknown kind {kind}")]
    Kind {
        /// What the record says.
        kind: u8,
    },
    /// A field is out of its range, or what must be zero is not.
    #[error("a record of kind {kind} from the proxy has a field out of range")]
    Field {
        /// The record's kind.
        kind: u8,
    },
}

/// Why an order cannot be sent or read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// More than [`MAX_FRAME`] bytes.
    #[error(
        "an order to the proxy of {length} bytes is over the limit of {MAX_FRAME}; hint: fewer sites, or shorter certificate chains"
    )]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not the JSON of an order.
    #[error("an order to the proxy cannot be read or written")]
    Json(#[source] serde_json::Error),
}

const MAGIC: [u8; 2] = *b"RC";
const ALIVE: u8 = 1;
const SERVER_HEALTH: u8 = 2;
const DRAINED: u8 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            any::<(bool, u32, u32)>().prop_map(|(accepting, connections, requests)| Record::Alive {
                accepting,
                connections,
                requests
            }),
            any::<(u16, u16, bool)>().prop_map(|(farm, server, healthy)| Record::ServerHealth {
                farm,
                server,
                healthy
            }),
            Just(Record::Drained),
        ]
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in record()) {
            prop_assert_eq!(Record::decode(record.encode()), Ok(record));
        }

        #[test]
        fn every_record_has_one_spelling(bytes in any::<[u8; RECORD_LEN]>(), valid_head in any::<bool>(), kind in 0..5u8, flag in 0..3u8) {
            let mut bytes = bytes;
            if valid_head {
                bytes[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], kind, flag]);
                bytes[12..].fill(0);
            }
            if let Ok(record) = Record::decode(bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }

        #[test]
        fn any_bytes_are_a_frame_or_an_error_or_not_yet_whole(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let before = bytes.len();
            if let Ok(None) = decode_frame(&mut bytes) {
                prop_assert_eq!(bytes.len(), before);
            }
        }

        #[test]
        fn frames_come_out_in_order_however_the_bytes_arrive(cuts in proptest::collection::vec(1..9usize, 0..40)) {
            let orders = [Order::Drain, Order::Resume, Order::Stop];
            let mut wire: Vec<u8> = orders.iter().flat_map(|order| encode_frame(order).unwrap()).collect();
            let (mut buffer, mut seen) = (Vec::new(), Vec::new());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                buffer.extend(wire.drain(..cut.min(wire.len())));
                while let Some(order) = decode_frame(&mut buffer).unwrap() {
                    seen.push(order);
                }
            }
            prop_assert_eq!(seen.as_slice(), orders.as_slice());
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        assert!(matches!(decode_frame(&mut bytes), Err(FrameError::TooLong { .. })));
    }
}
