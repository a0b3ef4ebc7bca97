//! Deliberate bugs, to prove that the simulation would notice: switched on for one thread, in tests alone.

use std::cell::Cell;

/// A rule of safety that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Who released a bucket goes on accepting until its heir has said that it has it.
    SkipRelease,
    /// The data path accepts after the lease has ended.
    IgnoreLease,
    /// The connections of a silent node get a reset at once, though its host answers.
    ResetOrphansAtOnce,
    /// What nobody is known to hold is taken without the others' agreement.
    TakeWithoutAsking,
    /// What a node last told counts, though it has something newer to tell.
    BelieveStale,
}

thread_local! {
    static ON: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether this rule is broken.
pub(crate) fn is_on(bug: Bug) -> bool {
    ON.get() == Some(bug)
}

/// Breaks a rule on this thread from now on; `None`: none.
pub(crate) fn switch(bug: Option<Bug>) {
    ON.set(bug);
}
