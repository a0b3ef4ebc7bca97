//! Server connections that rest and belong to nobody, for farms that share theirs (`reuse = "shared"`).
//!
//! Windows authentication logs a connection on, so who hands one in here answers for it: no sign of a logon was ever seen on it, in
//! either direction (`pin`). Nothing here outlives the configuration that it was opened under. A connection that has ended, or over
//! which bytes came that nobody asked for, is thrown away: before it is used again, and by and by where nobody asks.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::link::Link;

/// See the module.
#[derive(Debug)]
pub struct Idle<S>(Arc<Mutex<Shelves<S>>>);

/// What a connection is good for: as each site has its own TLS towards servers, only for the site that it was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index of the farm.
    pub farm: usize,
    /// Index of its server.
    pub server: usize,
    /// Index of the site.
    pub site: usize,
}

#[derive(Debug)]
struct Shelves<S> {
    /// Each the oldest first.
    by_place: BTreeMap<Place, VecDeque<Resting<S>>>,
    /// All of them.
    count: usize,
    /// Whether a task looks after them.
    tended: bool,
}

#[derive(Debug)]
struct Resting<S> {
    link: Link<S>,
    since: Instant,
}

impl<S> Default for Idle<S> {
    fn default() -> Self {
        let shelves = Shelves { by_place: BTreeMap::new(), count: 0, tended: false };
        Self(Arc::new(Mutex::new(shelves)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Idle<S> {
    /// Keeps a connection that may carry anybody's request, unless there are enough. Within a Tokio runtime.
    pub fn put(&self, place: Place, mut link: Link<S>) {
        link.rest();
        let mut shelves = shelves(&self.0);
        let tended = std::mem::replace(&mut shelves.tended, true);
        // What is closed here is closed without the lock.
        let _surplus = shelves.put(place, Resting { link, since: Instant::now() });
        drop(shelves);
        if !tended {
            tokio::spawn(tend(Arc::downgrade(&self.0)));
        }
    }

    /// A connection that was kept, the one that rested last, if it is still good.
    pub async fn take(&self, place: Place) -> Option<Link<S>> {
        loop {
            let mut resting = shelves(&self.0).take(place)?;
            if resting.is_fresh() && !resting.link.stirs_now().await {
                return Some(resting.link);
            }
        }
    }

    /// Closes a connection to a server, the one that rested longest: where connections to it are limited, before one more is
    /// opened.
    pub fn make_room(&self, farm: usize, server: usize) {
        let _surplus = shelves(&self.0).oldest_of(farm, server);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        shelves(&self.0).count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn shelves<S>(shelves: &Mutex<Shelves<S>>) -> MutexGuard<'_, Shelves<S>> {
    shelves.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after connections until there is none.
async fn tend<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(of: Weak<Mutex<Shelves<S>>>) {
    loop {
        sleep(TENDED_EVERY).await;
        let Some(all) = of.upgrade() else {
            return;
        };
        let none_left = poll_fn(|cx| Poll::Ready(shelves(&all).clear_out(cx))).await;
        if none_left {
            return;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shelves<S> {
    /// What has no place any more.
    fn put(&mut self, place: Place, resting: Resting<S>) -> Option<Resting<S>> {
        if self.count >= MOST {
            return Some(resting);
        }
        let shelf = self.by_place.entry(place).or_default();
        shelf.push_back(resting);
        if shelf.len() > MOST_OF_A_PLACE {
            return shelf.pop_front();
        }
        self.count += 1;
        None
    }

    fn take(&mut self, place: Place) -> Option<Resting<S>> {
        let taken = self.by_place.get_mut(&place)?.pop_back()?;
        self.count -= 1;
        Some(taken)
    }

    fn oldest_of(&mut self, farm: usize, server: usize) -> Option<Resting<S>> {
        let first = |site| Place { farm, server, site };
        let shelves = self.by_place.range_mut(first(0)..=first(usize::MAX)).map(|(_, shelf)| shelf);
        let since = |shelf: &&mut VecDeque<Resting<S>>| shelf.front().map(|resting| resting.since);
        let oldest = shelves.filter(|shelf| !shelf.is_empty()).min_by_key(since)?.pop_front()?;
        self.count -= 1;
        Some(oldest)
    }

    /// Closes what is of no use; whether nothing is left to be looked after.
    fn clear_out(&mut self, cx: &mut Context<'_>) -> bool {
        for shelf in self.by_place.values_mut() {
            shelf.retain_mut(|resting| resting.is_good(cx));
        }
        self.by_place.retain(|_, shelf| !shelf.is_empty());
        self.count = self.by_place.values().map(VecDeque::len).sum();
        self.tended = self.count > 0;
        !self.tended
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Resting<S> {
    /// Whether it has not rested too long.
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < LONGEST_REST
    }

    /// Whether besides it has not ended, and nothing came that nobody asked for.
    fn is_good(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_fresh() && self.link.poll_stirs(cx).is_pending()
    }
}

/// Below the 60 to 120 s after which most servers close a connection at rest: one that is closed while a request is on its way is
/// an error, or a second try.
const LONGEST_REST: Duration = Duration::from_secs(30);

const TENDED_EVERY: Duration = Duration::from_secs(5);

/// Most connections of one place.
const MOST_OF_A_PLACE: usize = 64;

/// Most connections in all, for which the worker has descriptors to spare.
pub const MOST: usize = 256;

#[cfg(test)]
mod tests;
