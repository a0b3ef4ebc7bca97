//! The words between the agent and its proxy child, as bytes. Pure: sockets are in `supervisor` and `worker`.
//!
//! Down (agent to child): frames, a length (`u32`, little endian, at most [`MAX_FRAME`]) and that much JSON. The child trusts
//! them. Up (child to agent): records of [`RECORD_LEN`] bytes. The child speaks with the network, so the agent reads them as
//! hostile: whatever is not exactly a known record is an error, and the child is replaced.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::balance::Health;
use super::balance::finding::Finding;
use super::balance::settings::State;
use super::hold::Hold;
use super::protect::logon::Refused;
use super::snapshot::Snapshot;

/// Longest JSON text of a frame, in bytes: hundreds of sites with their certificates.
pub const MAX_FRAME: usize = 4 << 20;

/// Bytes of a record.
pub const RECORD_LEN: usize = 64;

/// Most sockets that one order carries: the kernel's SCM_MAX_FD is 253, and two are for hand-over and questions.
pub const MAX_LISTENERS: usize = 251;

/// What the agent tells the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Serve this. The first order, and sent once; its first byte carries the sockets: the listening ones in the order of
    /// `Snapshot::listen`, then the Unix sockets on which the child answers questions (`ask`), and on which it hands the others over
    /// should the agent die.
    Start(Box<Snapshot>),
    /// Serve this instead, without ending a connection. Answered by `Applied`. Its first byte carries sockets for the addresses of
    /// `Snapshot::listen` that the settings before it did not have, in their order.
    Apply {
        /// Numbers the answer.
        number: u32,
        /// What to serve.
        snapshot: Box<Snapshot>,
    },
    /// Every response ends its connection, idle connections end, and what is in flight ends within the drain timeout; new
    /// connections are still served.
    Drain,
    /// Cancels `Drain`.
    Resume,
    /// These servers are in these states, whatever the snapshot says, and no others; those of later snapshots, too.
    States(Vec<ServerState>),
    /// So many client connections are open in a worker that this one took over from: this one may have that many fewer.
    Elsewhere {
        /// How many.
        connections: u32,
    },
    /// Accept no more, finish what is in flight within the drain timeout, report `Drained` and exit.
    Stop,
    /// The same, while another worker accepts: it has the sockets, and what waits in their queues is its.
    Retire,
}

impl Order {
    /// The settings of a child's first order; `None`: it is another order.
    pub fn into_start(self) -> Option<Snapshot> {
        match self {
            Self::Start(snapshot) => Some(*snapshot),
            Self::Apply { .. }
            | Self::Drain
            | Self::Resume
            | Self::States(_)
            | Self::Elsewhere { .. }
            | Self::Stop
            | Self::Retire => None,
        }
    }
}

/// A server's state, by an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerState {
    /// Its farm, or its pool of a TCP service.
    pub farm: String,
    /// Its name there.
    pub server: String,
    /// Whether it takes requests.
    pub state: State,
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
    /// How a server does in a health test, whenever it was tested or its health changed.
    ServerHealth {
        /// Which.
        of: ServerIndex,
        /// Index into the group's tests.
        test: u16,
        /// What follows for clients.
        health: Health,
        /// What was found last, if it was tested.
        finding: Option<Finding>,
    },
    /// What a server is doing, whenever that changes.
    ServerNow {
        /// Which.
        of: ServerIndex,
        /// Requests that it has not answered to their end.
        requests: u32,
        /// Connections to it.
        connections: u32,
    },
    /// How many requests a server got since the child started, whenever that changes.
    ServerRequests {
        /// Which.
        of: ServerIndex,
        /// How many.
        count: u64,
    },
    /// How many of those failed, whenever that changes.
    ServerFailures {
        /// Which.
        of: ServerIndex,
        /// How many.
        count: u64,
    },
    /// How long a server lately took to answer, whenever that changes.
    ServerTime {
        /// Which.
        of: ServerIndex,
        /// Microseconds on average.
        micros: u64,
    },
    /// The certificate that a server presented last, and whenever that is another.
    Presented {
        /// Which.
        of: ServerIndex,
        /// SHA-256 of its DER.
        sha256: [u8; 32],
        /// The second since 1970 after which it is no longer valid; 0 where that cannot be read.
        not_after: u64,
    },
    /// What became of an `Apply`. Whatever follows counts servers as the new settings do, if it was done.
    Applied {
        /// The order's number.
        number: u32,
        /// Why not, if it was not: then all is as before.
        refusal: Option<Refusal>,
    },
    /// So many were cut off at the end of the drain timeout.
    Cut {
        /// Of this kind.
        hold: Hold,
        /// How many since the last such record.
        count: u32,
    },
    /// Logons of so many users, or clients as a whole, are refused from now on, for having failed too often.
    LogonsRefused {
        /// The latest such client.
        client: IpAddr,
        /// Whether it was all of the client's users.
        whom: Refused,
        /// How many since the last such record.
        count: u32,
    },
    /// After `Drain` or `Stop`: no connection is left from before.
    Drained,
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerIndex {
    /// Index into `Snapshot::server_groups`.
    pub group: u16,
    /// Index into that group's servers.
    pub server: u16,
}

impl ServerIndex {
    fn number(self) -> u32 {
        u32::from(self.group) << 16 | u32::from(self.server)
    }

    fn of_number(number: u32) -> Self {
        let [server0, server1, group0, group1] = number.to_le_bytes();
        Self { group: u16::from_le_bytes([group0, group1]), server: u16::from_le_bytes([server0, server1]) }
    }
}

/// Why a child does not apply settings that its agent has checked. Its log has more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// They cannot be served.
    Settings,
    /// They name a server port that the child, as it was locked in, may not connect to.
    Port,
    /// The sockets that came along do not fit them.
    Sockets,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Settings, Self::Port, Self::Sockets];

    fn code(self) -> u32 {
        match self {
            Self::Settings => 1,
            Self::Port => 2,
            Self::Sockets => 3,
        }
    }
}

impl Record {
    /// The record as bytes: magic, kind, flag, two numbers of 32 bits and one of 64, little endian, a digest, zeros.
    pub fn encode(self) -> [u8; RECORD_LEN] {
        let mut digest = [0; 32];
        let (kind, flag, a, b, c) = match self {
            Self::Alive { accepting, connections, requests } => {
                (ALIVE, u8::from(accepting), connections, requests, 0)
            }
            Self::ServerHealth { of, test, health, finding } => {
                let finding = finding.map_or(0, Finding::code);
                (SERVER_HEALTH, flag_of(health), of.number(), u32::from(test), u64::from(finding))
            }
            Self::ServerNow { of, requests, connections } => {
                (SERVER_NOW, 0, of.number(), requests, u64::from(connections))
            }
            Self::ServerRequests { of, count } => (SERVER_REQUESTS, 0, of.number(), 0, count),
            Self::ServerFailures { of, count } => (SERVER_FAILURES, 0, of.number(), 0, count),
            Self::ServerTime { of, micros } => (SERVER_TIME, 0, of.number(), 0, micros),
            Self::Presented { of, sha256, not_after } => {
                digest = sha256;
                (PRESENTED, 0, of.number(), 0, not_after)
            }
            Self::Applied { number, refusal } => {
                (APPLIED, u8::from(refusal.is_none()), number, refusal.map_or(0, Refusal::code), 0)
            }
            Self::Cut { hold, count } => (CUT, 0, u32::try_from(hold.index()).unwrap_or_default(), count, 0),
            Self::LogonsRefused { client, whom, count } => {
                let client = match client {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                digest[..16].copy_from_slice(&client.octets());
                (LOGONS_REFUSED, u8::from(whom == Refused::Network), count, 0, 0)
            }
            Self::Drained => (DRAINED, 0, 0, 0, 0),
        };
        let mut bytes = [0; RECORD_LEN];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = kind;
        bytes[3] = flag;
        bytes[4..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..12].copy_from_slice(&b.to_le_bytes());
        bytes[12..20].copy_from_slice(&c.to_le_bytes());
        bytes[20..52].copy_from_slice(&digest);
        bytes
    }

    /// The record that `bytes` spell. Every record has exactly one spelling.
    pub fn decode(bytes: [u8; RECORD_LEN]) -> Result<Self, RecordError> {
        let [m0, m1, kind, flag, a0, a1, a2, a3, b0, b1, b2, b3, ..] = bytes;
        if [m0, m1] != MAGIC {
            return Err(RecordError::Magic);
        }
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let b = u32::from_le_bytes([b0, b1, b2, b3]);
        let (mut c, mut sha256) = ([0; 8], [0; 32]);
        c.copy_from_slice(&bytes[12..20]);
        sha256.copy_from_slice(&bytes[20..52]);
        let c = u64::from_le_bytes(c);
        let of = ServerIndex::of_number(a);
        let wrong = RecordError::Field { kind };
        let record = match kind {
            ALIVE => Self::Alive { accepting: flag == 1, connections: a, requests: b },
            SERVER_HEALTH => server_health(of, flag, b, c).ok_or(wrong)?,
            SERVER_NOW => {
                Self::ServerNow { of, requests: b, connections: u32::try_from(c).map_err(|_| wrong)? }
            }
            SERVER_REQUESTS => Self::ServerRequests { of, count: c },
            SERVER_FAILURES => Self::ServerFailures { of, count: c },
            SERVER_TIME => Self::ServerTime { of, micros: c },
            PRESENTED => Self::Presented { of, sha256, not_after: c },
            APPLIED => {
                Self::Applied { number: a, refusal: Refusal::ALL.into_iter().find(|known| known.code() == b) }
            }
            CUT => {
                let hold = usize::try_from(a).ok().and_then(|index| Hold::ALL.get(index));
                Self::Cut { hold: *hold.ok_or(wrong)?, count: b }
            }
            LOGONS_REFUSED => {
                let [client, rest] = [&sha256[..16], &sha256[16..]];
                let octets: [u8; 16] = client.try_into().map_err(|_| wrong)?;
                if rest.iter().any(|byte| *byte != 0) {
                    return Err(wrong);
                }
                let whom = if flag == 1 { Refused::Network } else { Refused::Pair };
                let client = IpAddr::from(octets).to_canonical();
                Self::LogonsRefused { client, whom, count: a }
            }
            DRAINED => Self::Drained,
            unknown => return Err(RecordError::Kind { kind: unknown }),
        };
        // What a record does not say is zero.
        if record.encode() == bytes { Ok(record) } else { Err(RecordError::Field { kind }) }
    }
}

fn server_health(of: ServerIndex, flag: u8, test: u32, finding: u64) -> Option<Record> {
    let health = match flag {
        0 => Health::Untested,
        1 => Health::Healthy,
        2 => Health::Unhealthy,
        3.. => return None,
    };
    let finding = match u16::try_from(finding).ok()? {
        0 => None,
        code => Some(Finding::of_code(code)?),
    };
    Some(Record::ServerHealth { of, test: u16::try_from(test).ok()?, health, finding })
}

fn flag_of(health: Health) -> u8 {
    match health {
        Health::Untested => 0,
        Health::Healthy => 1,
        Health::Unhealthy => 2,
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
const SERVER_NOW: u8 = 4;
const SERVER_REQUESTS: u8 = 5;
const SERVER_FAILURES: u8 = 6;
const SERVER_TIME: u8 = 7;
const APPLIED: u8 = 8;
const PRESENTED: u8 = 9;
const CUT: u8 = 10;
const LOGONS_REFUSED: u8 = 11;

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
            (server(), any::<u16>(), 0..3_u8, 0..1000_u64).prop_filter_map(
                "no finding",
                |(of, test, flag, code)| server_health(of, flag, test.into(), code)
            ),
            (server(), any::<(u32, u32)>()).prop_map(|(of, (requests, connections))| Record::ServerNow {
                of,
                requests,
                connections
            }),
            (server(), any::<u64>()).prop_map(|(of, count)| Record::ServerRequests { of, count }),
            (server(), any::<u64>()).prop_map(|(of, count)| Record::ServerFailures { of, count }),
            (server(), any::<u64>()).prop_map(|(of, micros)| Record::ServerTime { of, micros }),
            (server(), any::<([u8; 32], u64)>())
                .prop_map(|(of, (sha256, not_after))| { Record::Presented { of, sha256, not_after } }),
            any::<u32>().prop_map(|number| Record::Applied { number, refusal: None }),
            (any::<u32>(), proptest::sample::select(&Refusal::ALL[..]))
                .prop_map(|(number, refusal)| Record::Applied { number, refusal: Some(refusal) }),
            (proptest::sample::select(&Hold::ALL[..]), any::<u32>())
                .prop_map(|(hold, count)| Record::Cut { hold, count }),
            (any::<IpAddr>(), any::<bool>(), any::<u32>()).prop_map(|(client, all, count)| {
                let whom = if all { Refused::Network } else { Refused::Pair };
                Record::LogonsRefused { client: client.to_canonical(), whom, count }
            }),
            Just(Record::Drained),
        ]
    }

    fn server() -> impl Strategy<Value = ServerIndex> {
        any::<(u16, u16)>().prop_map(|(group, server)| ServerIndex { group, server })
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in record()) {
            prop_assert_eq!(Record::decode(record.encode()), Ok(record));
        }

        #[test]
        fn every_record_has_one_spelling(bytes in any::<[u8; RECORD_LEN]>(), valid_head in any::<bool>(), kind in 0..13u8, flag in 0..4u8, small in any::<bool>()) {
            let mut bytes = bytes;
            if valid_head {
                bytes[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], kind, flag]);
                bytes[14..].fill(0);
                if small {
                    bytes[9..12].fill(0);
                    bytes[8] &= 3;
                    bytes[12..14].fill(0);
                }
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
