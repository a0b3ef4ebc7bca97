//! A child that is to take over: it comes up beside the one that serves, which goes on if it does not.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::super::book::Book;
use super::super::error::{Fault, ReplaceError};
use super::{Means, Running, Sockets, start_child, ticks};
use crate::proxy::channel::{Order, Record, ServerState};
use crate::wall::WallTime;

/// A child that is up, and what it has said.
pub(in crate::proxy::supervisor) struct Up {
    pub(super) running: Running,
    pub(super) book: Book,
}

/// See the module. Dropped, it ends the child.
pub(in crate::proxy::supervisor) struct Coming {
    up: Pin<Box<dyn Future<Output = Result<Up, Fault>> + Send>>,
    /// What it is given.
    pub(super) sockets: Arc<Sockets>,
    pub(super) done: oneshot::Sender<Result<(), ReplaceError>>,
}

impl Coming {
    /// Starts it, with the states that operators gave servers: it serves clients before it takes over.
    pub(super) fn begin(
        means: Arc<Means>,
        sockets: Arc<Sockets>,
        states: watch::Receiver<Arc<Vec<ServerState>>>,
        done: oneshot::Sender<Result<(), ReplaceError>>,
    ) -> Self {
        Self { up: Box::pin(come_up(means, Arc::clone(&sockets), states)), sockets, done }
    }

    /// Returns once it serves, or why it does not, where one is coming. Cancel safe; to be waited for once.
    pub(super) async fn up(coming: &mut Option<Self>) -> Result<Up, Fault> {
        match coming {
            Some(coming) => coming.up.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

async fn come_up(
    means: Arc<Means>,
    sockets: Arc<Sockets>,
    mut states: watch::Receiver<Arc<Vec<ServerState>>>,
) -> Result<Up, Fault> {
    let given = Arc::clone(&states.borrow_and_update());
    let mut fresh = Fresh(Some(start_child(&means, &sockets, Arc::clone(&given)).await?));
    let mut book = Book::new(&sockets.snapshot);
    book.started(fresh.0.as_ref().map(|running| running.child.id()));
    book.states(&given);
    let mut tick = ticks();
    let mut accepting = 0;
    while let Some(running) = &mut fresh.0 {
        let Running { channel, records, outbox, states: told, .. } = running;
        tokio::select! {
            biased;
            read = records.read(channel) => match read.map_err(Fault::System)? {
                true => while let Some(bytes) = records.next() {
                    book.record(Record::decode(bytes)?, WallTime::now())?;
                },
                false => return Err(Fault::Closed),
            },
            Ok(()) = states.changed() => {
                *told = Arc::clone(&states.borrow_and_update());
                outbox.put(&Order::States(told.to_vec()), Vec::new())?;
                book.states(told);
            }
            sent = outbox.send(channel) => sent.map_err(Fault::System)?,
            _ = tick.tick() => {
                book.tick()?;
                accepting += u32::from(book.accepting);
            }
        }
        // Where a farm has no healthy server, it would be no better than the one that serves; but no worse.
        if book.status.ready || accepting > PATIENCE {
            break;
        }
    }
    fresh.0.take().map(|running| Up { running, book }).ok_or(Fault::Closed)
}

/// A child that nobody else would end.
struct Fresh(Option<Running>);

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.child.end();
        }
    }
}

/// Ticks that a child which accepts is waited for until each of its farms has a healthy server: 3 s.
const PATIENCE: u32 = 12;
