//! The secret that the tables' hashes depend on. Where its bytes come from is the caller's affair.

use std::fmt;

use siphasher::sip::SipHasher13;

/// A key for SipHash-1-3. Who does not know it can neither choose what falls together in a table, nor tell from a hash whose
/// it is by trying names.
#[derive(Clone)]
pub struct HashKey(SipHasher13);

impl HashKey {
    /// The key with these bytes, which must be random and never leave the process.
    pub fn new(bytes: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(bytes))
    }

    /// The hash of `bytes`.
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.0.hash(bytes)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}
