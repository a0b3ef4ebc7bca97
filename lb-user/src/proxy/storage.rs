//! Storage for bytes that came and were not used yet. Each thread keeps some for whoever is next: a busy connection takes one for
//! nearly every request, and one at rest has none.

use std::cell::RefCell;

/// How much a piece of storage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// A TLS record's content is at most that (RFC 8446, 5.1).
    Content,
    /// What one read brings of records: four full ones but for their overhead (RFC 8446, 5.2).
    Records,
}

impl Size {
    /// In bytes.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Content => 16 << 10,
            Self::Records => 64 << 10,
        }
    }
}

/// Storage that is not in use.
#[derive(Default)]
struct Free {
    contents: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
}

impl Free {
    fn of(&mut self, size: Size) -> &mut Vec<Vec<u8>> {
        match size {
            Size::Content => &mut self.contents,
            Size::Records => &mut self.records,
        }
    }
}

thread_local! {
    static FREE: RefCell<Free> = RefCell::default();
}

/// Storage of that size, initialised throughout.
pub(super) fn take(size: Size) -> Vec<u8> {
    FREE.with_borrow_mut(|free| free.of(size).pop()).unwrap_or_else(|| vec![0; size.bytes()])
}

/// Keeps it for the next that takes one of its size; of any other size it is the allocator's.
pub(super) fn put_back(storage: Vec<u8>) {
    let size = [Size::Content, Size::Records].into_iter().find(|size| size.bytes() == storage.len());
    let Some(size) = size else { return };
    let keep = |free: &mut Free| {
        let free = free.of(size);
        if free.len() < MOST_FREE / size.bytes() {
            free.push(storage);
        }
    };
    // A thread that is ending has none any more.
    FREE.try_with(|free| keep(&mut free.borrow_mut())).ok();
}

/// Bytes of storage of each size that a thread keeps.
const MOST_FREE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_some_storage_of_each_size_and_no_other() {
        for size in [Size::Content, Size::Records] {
            let taken: Vec<_> = (0..100).map(|_| take(size)).collect();
            assert!(taken.iter().all(|storage| storage.len() == size.bytes()));
            taken.into_iter().for_each(put_back);
            put_back(vec![0; size.bytes() + 1]);
            let kept = FREE.with_borrow_mut(|free| free.of(size).len());
            assert_eq!(kept * size.bytes(), MOST_FREE);
        }
    }
}
