//! The wall clock, as operators read it. It is shown and decides nothing: it may step by a day. Cores use [`crate::clock`].

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sys;

/// A moment in milliseconds since 1970 (UTC), at most the last one of the year 9999.
///
/// As text it is RFC 3339 in UTC: `2026-11-24T12:31:07.042Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WallTime(u64);

const DAY: u64 = 86_400;

impl WallTime {
    /// The last one that can be written.
    const LAST: u64 = 253_402_300_799_999;

    /// The moment `ms` milliseconds after 1970.
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self(if ms < Self::LAST { ms } else { Self::LAST })
    }

    /// Milliseconds since 1970.
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// Reads the clock. For shells only.
    pub fn now() -> Self {
        #[expect(clippy::disallowed_methods, reason = "shown to the operator, decides nothing")]
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix_ms(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment `length` after.
    #[must_use]
    pub fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment `length` before.
    #[must_use]
    pub fn before(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Year, month, day, hour, minute and second in UTC.
    pub fn utc(self) -> [u32; 6] {
        let seconds = self.0 / 1000;
        let (year, month, day) = date(seconds / DAY);
        let all = [year, month, day, seconds % DAY / 3600, seconds / 60 % 60, seconds % 60];
        all.map(|part| u32::try_from(part).unwrap_or_default())
    }

    /// As this host's clocks show it: `2026-11-24 13:31:07`. Where the time zone cannot be read, in UTC.
    pub fn local(self) -> String {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(0);
        match sys::local_time(seconds) {
            Ok([year, month, day, hour, minute, second]) => {
                format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
            }
            Err(_) => self.to_string().replace('T', " ").chars().take(19).collect(),
        }
    }

    /// Reads what a person types: RFC 3339, or without an offset this host's own time, as `2026-11-24 13:31` or `2026-11-24`.
    pub fn read(text: &str) -> Option<Self> {
        if let Ok(time) = text.parse() {
            return Some(time);
        }
        let (date, rest) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
        let [year, month, day] = numbers(date, '-')?;
        let with_seconds = if rest.len() == 5 { format!("{rest}:00") } else { rest.to_owned() };
        let [hour, minute, second] = numbers(&with_seconds, ':')?;
        days(year, month, day).filter(|_| hour < 24 && minute < 60 && second < 60)?;
        let parts = [year, month, day, hour, minute, second].map(|part| i32::try_from(part).unwrap_or(0));
        let seconds = u64::try_from(sys::unix_time(parts).ok()?).ok()?;
        Some(Self::from_unix_ms(seconds * 1000))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([year, month, day, hour, minute, second], ms) = (self.utc(), self.0 % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// The text is no time as RFC 3339 has it, or one before 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time as in RFC 3339, such as 2026-11-24T12:31:07Z")]
pub struct NoTime;

impl FromStr for WallTime {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        parse(text).ok_or(NoTime)
    }
}

fn parse(text: &str) -> Option<WallTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let end = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, offset) = rest.split_at(end);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(clock, ':')?);
    // A leap second counts as the one that follows it.
    if hour >= 24 || minute >= 60 || second > 60 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ms: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let local = days(year, month, day)? * DAY + hour * 3600 + minute * 60 + second;
    let offset = match offset.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let [hours, minutes] =
                numbers(offset, ':').filter(|&[hours, minutes]| hours < 24 && minutes < 60)?;
            let offset = i64::try_from(hours * 3600 + minutes * 60).ok()?;
            if sign == "+" { offset } else { -offset }
        }
    };
    let seconds = local.checked_add_signed(-offset)?;
    Some(WallTime::from_unix_ms(seconds * 1000 + ms))
}

/// Exactly `N` numbers of two digits (a year has four).
fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(between);
    for number in &mut numbers {
        let part = parts.next()?;
        let digits = part.bytes().all(|b| b.is_ascii_digit()) && matches!(part.len(), 2 | 4);
        *number = part.parse().ok().filter(|_| digits)?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Days from 1970 to this one, in the Gregorian calendar. Years are counted from March, so that a leap day is a year's last.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let (shifted, year_of) = ((month + 9) % 12, year - u64::from(month <= 2));
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = year_of * 365 + year_of / 4 - year_of / 100 + year_of / 400 + day_of_year;
    let days = days.checked_sub(719_468)?;
    // 31 April is no date, though the sum above takes it for 1 May.
    (date(days) == (year, month, day)).then_some(days)
}

/// The date so many days after 1970; the inverse of `days`, after H. Hinnant's `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = (shifted + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_and_reads_back() {
        // From `date -u -d @N`.
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_523_467_042, "2026-11-24T12:31:07.042Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let time = WallTime::from_unix_ms(ms);
            assert_eq!(time.to_string(), text);
            assert_eq!(text.parse(), Ok(time));
        }
    }

    #[test]
    fn every_day_has_one_date() {
        for day in 0..400 * 366 {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), Some(day), "{year}-{month}-{of_month}");
        }
    }

    #[test]
    fn offsets_count_and_what_is_no_time_is_refused() {
        let noon: WallTime = "2026-11-24T12:00:00Z".parse().unwrap();
        for text in
            ["2026-11-24T13:30:00+01:30", "2026-11-24 07:00:00.0-05:00", "2026-11-24T12:00:00.000900z"]
        {
            assert_eq!(text.parse(), Ok(noon), "{text}");
        }
        for text in [
            "",
            "Z",
            "2026-11-24",
            "2026-11-24T12:00:00",
            "2026-02-29T12:00:00Z",
            "2026-04-31T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "1969-12-31T12:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "2026-11-24T24:00:00Z",
            "2026-11-24T12:00:00+1",
            "2026-11-24T12:00:00Zx",
            "2026-11-24T12:00:00.äZ",
            "+026-11-24T12:00:00Z",
        ] {
            assert_eq!(text.parse::<WallTime>(), Err(NoTime), "{text}");
        }
    }

    #[test]
    fn a_person_may_leave_out_offset_and_seconds() {
        let time = WallTime::read("2026-11-24 12:31").unwrap();
        assert_eq!(time.local(), "2026-11-24 12:31:00");
        assert_eq!(WallTime::read("2026-11-24T12:31:05").unwrap().local(), "2026-11-24 12:31:05");
        assert_eq!(WallTime::read("2026-11-24").unwrap().local(), "2026-11-24 00:00:00");
        assert_eq!(WallTime::read("2026-11-24T12:31:07Z"), Some(WallTime::from_unix_ms(1_795_523_467_000)));
        for text in ["", "yesterday", "12:31", "2026-11-31", "2026-11-24 25:00"] {
            assert_eq!(WallTime::read(text), None, "{text}");
        }
    }
}
