//! Numbers for requests: what stands in the log, in `X-Request-Id` and in what an operator asks `rollcall explain` for.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// Hands out numbers that no other worker hands out.
#[derive(Debug)]
pub struct Numbers {
    /// Random, of this worker.
    worker: u64,
    next: AtomicU64,
}

impl Numbers {
    /// For a worker with this random number.
    pub fn new(worker: u64) -> Self {
        Self { worker, next: AtomicU64::new(1) }
    }

    /// The next one.
    pub fn next(&self) -> RequestId {
        RequestId::new(self.worker, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// A request's number. As text: 16 hexadecimal digits of the worker, `-`, and its count in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    worker: u64,
    count: u64,
}

impl RequestId {
    /// The number `count` of a worker.
    pub const fn new(worker: u64, count: u64) -> Self {
        Self { worker, count }
    }

    /// Writes it as text.
    pub fn write_to(self, into: &mut Vec<u8>) {
        hex(self.worker, 16, into);
        into.push(b'-');
        let digits = (u64::BITS - self.count.leading_zeros()).div_ceil(4).max(1);
        hex(self.count, digits, into);
    }
}

fn hex(number: u64, digits: u32, into: &mut Vec<u8>) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    into.extend((0..digits).rev().map(|place| DIGITS[(number >> (4 * place) & 0xf) as usize]));
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.worker, self.count)
    }
}

/// The text is no request's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a request's number, such as 5f0c1d3a99b2e470-1a2")]
pub struct NoNumber;

impl FromStr for RequestId {
    type Err = NoNumber;

    fn from_str(text: &str) -> Result<Self, NoNumber> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(text, 16).ok().filter(|_| digits)
        };
        let (worker, count) = text.split_once('-').ok_or(NoNumber)?;
        let worker = number(worker).filter(|_| worker.len() == 16);
        Ok(Self { worker: worker.ok_or(NoNumber)?, count: number(count).ok_or(NoNumber)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_number_comes_twice() {
        let numbers = Numbers::new(0xabc);
        assert_eq!(numbers.next().to_string(), "0000000000000abc-1");
        assert_eq!(numbers.next().to_string(), "0000000000000abc-2");
    }

    #[test]
    fn what_is_no_number_is_told() {
        for text in [
            "",
            "-",
            "abc-1",
            "0000000000000abc",
            "0000000000000abc-",
            "0000000000000abc-+1",
            "+000000000000abc-1",
        ] {
            assert_eq!(text.parse::<RequestId>(), Err(NoNumber), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_is_written_in_one_way_and_reads_back(worker in any::<u64>(), count in any::<u64>()) {
            let id = RequestId { worker, count };
            let mut bytes = Vec::new();
            id.write_to(&mut bytes);
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(&text, &id.to_string());
            prop_assert_eq!(text.parse(), Ok(id));
        }
    }
}
