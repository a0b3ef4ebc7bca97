//! What a health test found, as far as an operator is told. Pure.

use std::fmt;

/// What the latest test of a server came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An answer with this status, 100 to 999. Whether it is a good one, the server's health tells.
    Status(u16),
    /// A connection, which is all that was asked for.
    Connected,
    /// Nothing, or not all, in time.
    Timeout,
    /// No connection.
    NoConnection,
    /// The server is not who it must be, or speaks no TLS that we speak.
    Tls,
    /// What it said is not what was expected of its protocol, or it said nothing.
    Malformed,
    /// An answer with an expected status, but not the expected text.
    Body,
}

impl Finding {
    /// Its number on the way to the agent; a status is its own.
    pub fn code(self) -> u16 {
        match self {
            Self::Status(status) => status,
            Self::Connected => 1,
            Self::Timeout => 2,
            Self::NoConnection => 3,
            Self::Tls => 4,
            Self::Malformed => 5,
            Self::Body => 6,
        }
    }

    /// What the number means; none means 7 to 99, or 1000 and above, and 0 is nothing.
    pub fn of_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Connected),
            2 => Some(Self::Timeout),
            3 => Some(Self::NoConnection),
            4 => Some(Self::Tls),
            5 => Some(Self::Malformed),
            6 => Some(Self::Body),
            100..=999 => Some(Self::Status(code)),
            0 | 7..=99 | 1000.. => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Connected => f.write_str("connected"),
            Self::Timeout => f.write_str("timeout"),
            Self::NoConnection => f.write_str("no connection"),
            Self::Tls => f.write_str("TLS failed"),
            Self::Malformed => f.write_str("malformed"),
            Self::Body => f.write_str("other text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_finding_or_none() {
        let all: Vec<Finding> = (0..=u16::MAX).filter_map(Finding::of_code).collect();
        assert_eq!(all.len(), 6 + 900);
        for (number, finding) in (0..=u16::MAX).filter_map(|code| Some((code, Finding::of_code(code)?))) {
            assert_eq!(finding.code(), number);
        }
    }
}
