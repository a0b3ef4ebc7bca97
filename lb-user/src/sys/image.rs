//! One program after another in the same process: what is open stays open where it is kept, and is found again.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::FdFlags;

/// Puts the program that `program` is open on in this one's place, in the same process, with these arguments (the first is its
/// name) and this environment. Returns only why not; then nothing has changed.
///
/// Blocked signals stay blocked and pending ones pending; children stay children; of descriptors those stay that are kept.
pub fn replace(
    program: BorrowedFd<'_>,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> io::Error {
    let joined = environment.into_iter().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    // The kernel walks the path once, before it closes anything.
    let path = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    match (path, strings(arguments), strings(joined)) {
        (Ok(path), Ok(arguments), Ok(environment)) => {
            let (arguments, environment) = (pointers(&arguments), pointers(&environment));
            // SAFETY: the path ends with a zero, both arrays end with a null pointer, and all that they point to are strings that
            // end with a zero; all of it lives until the call returns, which it does only after a failure.
            unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            io::Error::last_os_error()
        }
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => error.into(),
    }
}

fn strings(words: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, std::ffi::NulError> {
    words.into_iter().map(|word| CString::new(word.into_vec())).collect()
}

fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Keeps a descriptor open for the program that comes next, under its number, which is given.
pub fn keep(descriptor: BorrowedFd<'_>) -> io::Result<RawFd> {
    rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
    Ok(descriptor.as_raw_fd())
}

/// Takes the variable `name` out of the environment, so that no child finds it there.
///
/// For the first line of a program only, when there is no other thread that could look at the environment.
pub fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: no other thread reads or writes the environment: none was started yet.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// The descriptors that were open when this program began, beside standard input, output and error.
#[derive(Debug, Default)]
pub struct Inherited(BTreeSet<RawFd>);

impl Inherited {
    /// For the first line of a program only: whoever opened something before would share it. A second call finds nothing.
    pub fn at_start() -> io::Result<Self> {
        static LOOKED: AtomicBool = AtomicBool::new(false);
        if LOOKED.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let folder = rustix::fs::open("/proc/self/fd", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut numbers = BTreeSet::new();
        for entry in Dir::read_from(&folder)? {
            let number = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok());
            numbers.extend(number.filter(|number: &RawFd| *number > 2));
        }
        drop(folder);
        // What the look itself had open is closed again.
        numbers.retain(|number| is_open(*number));
        Ok(Self(numbers))
    }

    /// Takes one over; `None` if it was not open, or was taken before. From now on it is closed when another program begins.
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        if !self.0.remove(&number) {
            return None;
        }
        // SAFETY: the descriptor was open before this program opened anything, so nothing here owns it, and a number leaves the
        // set with its only taker.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        // It can fail only for a descriptor that is not open.
        rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC).ok()?;
        Some(descriptor)
    }
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: F_GETFD touches no memory, and says EBADF of what is not open.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}
