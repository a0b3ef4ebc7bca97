//! Places for client connections, of which there are so many at a time and not always the same number: configurations change it,
//! and another worker that still has connections needs some.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module. Who gets no place waits.
#[derive(Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Clone, Copy, Debug)]
struct Size {
    /// What the machine is good for.
    machine: u32,
    /// What is configured.
    configured: Option<u32>,
    /// What others need.
    elsewhere: u32,
    /// Places that there are, free or taken: more than there should be only while they are taken.
    places: u32,
}

/// One place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// As many places as the machine is good for, or as are configured if that is less.
    pub fn new(machine: u32, configured: Option<u32>) -> Arc<Self> {
        let size = Size { machine, configured, elsewhere: 0, places: 0 };
        let places = size.wanted();
        let free = Arc::new(Semaphore::new(permits(places)));
        Arc::new(Self { free, size: Mutex::new(Size { places, ..size }) })
    }

    /// Waits for a place. Cancel safe.
    pub async fn place(self: &Arc<Self>) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        // The semaphore is never closed.
        Place { room: Arc::clone(self), permit: permit.ok() }
    }

    /// A place, if one is free.
    pub fn try_place(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { room: Arc::clone(self), permit: Some(permit) })
    }

    /// Another number is configured. Places that are taken stay so.
    pub fn configure(&self, configured: Option<u32>) {
        let mut size = self.size();
        size.configured = configured;
        self.settle(&mut size);
    }

    /// So many are needed elsewhere from now on.
    pub fn leave(&self, elsewhere: u32) {
        let mut size = self.size();
        size.elsewhere = elsewhere;
        self.settle(&mut size);
    }

    /// How many places there are to be.
    pub fn limit(&self) -> u32 {
        self.size().wanted()
    }

    fn settle(&self, size: &mut Size) {
        let wanted = size.wanted();
        if size.places < wanted {
            self.free.add_permits(permits(wanted - size.places));
            size.places = wanted;
        } else {
            let gone = self.free.forget_permits(permits(size.places - wanted));
            size.places -= u32::try_from(gone).unwrap_or(size.places);
        }
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Size {
    fn wanted(&self) -> u32 {
        let most = self.configured.map_or(self.machine, |configured| configured.min(self.machine));
        most.saturating_sub(self.elsewhere)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut size = self.room.size();
        if size.places > size.wanted() {
            // Whoever waits must not get it.
            size.places -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

fn permits(places: u32) -> usize {
    usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Take,
        Leave(usize),
        Configure(Option<u32>),
        Elsewhere(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => Just(Op::Take),
            2 => any::<usize>().prop_map(Op::Leave),
            1 => proptest::option::of(0..12_u32).prop_map(Op::Configure),
            1 => (0..12_u32).prop_map(Op::Elsewhere),
        ]
    }

    proptest! {
        #[test]
        fn a_place_is_given_only_while_fewer_are_taken_than_there_are_to_be(ops in proptest::collection::vec(op(), 0..200)) {
            let room = Room::new(8, None);
            let mut taken: Vec<Place> = Vec::new();
            for op in ops {
                match op {
                    Op::Take => {
                        let limit = room.limit();
                        let place = room.try_place();
                        prop_assert_eq!(place.is_some(), taken.len() < limit as usize, "{} of {}", taken.len(), limit);
                        taken.extend(place);
                    }
                    Op::Leave(which) if !taken.is_empty() => drop(taken.swap_remove(which % taken.len())),
                    Op::Leave(_) => {}
                    Op::Configure(most) => room.configure(most),
                    Op::Elsewhere(others) => room.leave(others),
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_no_place_that_is_needed_elsewhere() {
        let room = Room::new(1, None);
        let place = room.place().await;
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { drop(room.place().await) }
        });
        tokio::task::yield_now().await;
        room.leave(1);
        drop(place);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        room.leave(0);
        waiting.await.unwrap();
    }
}
