//! The host's time zone, which only the C library knows how to read.

use std::io;
use std::mem::MaybeUninit;

/// Year, month, day, hour, minute and second in the host's time zone, `unix` seconds after 1970 (UTC).
pub fn local_time(unix: i64) -> io::Result<[i32; 6]> {
    let mut broken = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to variables that live until the call returns; it reads the one and writes the other. It also
    // reads the variable TZ, which this program never changes.
    let done = unsafe { libc::localtime_r(&raw const unix, broken.as_mut_ptr()) };
    if done.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has written every field.
    let tm = unsafe { broken.assume_init() };
    Ok([tm.tm_year.saturating_add(1900), tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec])
}

/// The opposite: seconds after 1970 (UTC). Of an hour that is there twice a year it is the C library's choice which is meant.
pub fn unix_time([year, month, day, hour, minute, second]: [i32; 6]) -> io::Result<i64> {
    // SAFETY: `tm` is made of numbers and a pointer that may be null, so zeros are a valid one.
    let mut tm: libc::tm = unsafe { MaybeUninit::zeroed().assume_init() };
    tm.tm_year = year.saturating_sub(1900);
    tm.tm_mon = month.saturating_sub(1);
    (tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec) = (day, hour, minute, second);
    // Whether it is summer time is for the C library to find out.
    tm.tm_isdst = -1;
    // SAFETY: the pointer is to a variable that lives until the call returns, which reads and writes it; TZ as above.
    match unsafe { libc::mktime(&raw mut tm) } {
        -1 => Err(io::ErrorKind::InvalidInput.into()),
        unix => Ok(unix),
    }
}
