//! A worker that another one took over from: it has its requests to itself, and its time is bounded.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::error::Fault;
use super::Running;
use crate::control::api::RetiringStatus;
use crate::proxy::channel::{FrameError, Order, Record};
use crate::proxy::hold::Hold;

/// See the module.
#[derive(Debug)]
pub(in crate::proxy::supervisor) struct Retiring {
    pub(in crate::proxy::supervisor) running: Running,
    pub(in crate::proxy::supervisor) status: RetiringStatus,
    /// When it is ended, if it has not come to its end.
    pub(in crate::proxy::supervisor) by: Instant,
}

/// What became of it.
pub(super) enum Heard {
    /// It said something, perhaps how many connections it has.
    Word {
        /// What of it was cut off at the end of the drain timeout.
        cut: Vec<(Hold, u32)>,
    },
    /// It is gone, or has to go.
    End(Option<Fault>),
}

impl Retiring {
    /// Tells a worker that another one has its sockets now.
    pub(super) fn begin(
        mut running: Running,
        status: RetiringStatus,
        within: Duration,
    ) -> Result<Self, FrameError> {
        running.outbox.put(&Order::Retire, Vec::new())?;
        Ok(Self { running, status, by: Instant::now() + within })
    }

    /// What there is to hear of it, if there is one. Cancel safe.
    pub(super) async fn hear(retiring: &mut Option<Self>) -> Heard {
        let Some(Self { running, status, by }) = retiring else {
            return std::future::pending().await;
        };
        let Running { channel, records, outbox, .. } = running;
        let mut cut = Vec::new();
        tokio::select! {
            read = records.read(channel) => match read {
                Ok(true) => {
                    while let Some(bytes) = records.next() {
                        match Record::decode(bytes) {
                            Ok(Record::Alive { connections, requests, .. }) => {
                                (status.connections, status.requests) = (connections, requests);
                            }
                            Ok(Record::Cut { hold, count }) => cut.push((hold, count)),
                            Ok(
                                Record::ServerHealth { .. }
                                | Record::ServerNow { .. }
                                | Record::ServerRequests { .. }
                                | Record::ServerFailures { .. }
                                | Record::ServerTime { .. }
                                | Record::Presented { .. }
                                | Record::LogonsRefused { .. }
                                | Record::Applied { .. }
                                | Record::Drained,
                            ) => {}
                            Err(error) => return Heard::End(Some(error.into())),
                        }
                    }
                    Heard::Word { cut }
                }
                Ok(false) => Heard::End(None),
                Err(error) => Heard::End(Some(Fault::System(error))),
            },
            sent = outbox.send(channel) => match sent {
                Ok(()) => Heard::Word { cut },
                Err(error) => Heard::End(Some(Fault::System(error))),
            },
            () = sleep_until(*by) => Heard::End(Some(Fault::Late)),
        }
    }
}
