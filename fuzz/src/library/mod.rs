//! What the fuzzers of the shared configuration take of the library: its decoders, and what these name.

#[path = "../../../lb-user/src/shared"]
#[allow(dead_code, unreachable_pub, reason = "modules of the library, of which each program needs a part")]
pub(crate) mod shared {
    pub(crate) mod generation;
    pub(crate) mod history;
    pub(crate) mod keys;
    pub(crate) mod message;
    pub(crate) mod portable;
    pub(crate) mod record;
    pub(crate) mod sealed;
    pub(crate) mod token;

    mod text;
}
