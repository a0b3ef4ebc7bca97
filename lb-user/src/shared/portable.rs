//! A cluster's configuration in one file under a passphrase, from which it is restored on hosts that have nothing: the counterpart
//! of what IIS exports with an encryption password.
//!
//! ```text
//! rollcall portable 1      LF
//! length of what follows   LF    decimal, bytes
//! SHA-256 of what follows  LF    hexadecimal
//! age file                       to the end: scrypt and ChaCha20-Poly1305 (<https://age-encryption.org/v1>)
//! ```
//! The lines above the age file keep nobody out: they tell a file that was cut short or damaged on its way from a wrong passphrase,
//! and one of a later version from both, before a passphrase is asked for. That nobody has changed it is for the age file to say.
//! Without them (`tail -n +4 FILE`) it is read by any program for age.
//!
//! In it is one generation, whole: its text, the files that it names, and the cluster secret, from which the cluster's identity, the
//! hash seed and all keys derive. No node's private keys are in it: whoever restores the cluster makes new ones.
//!
//! The random numbers are the library's own.

use std::fmt;
use std::io::{Read as _, Write as _};

use age::DecryptError;
use age::secrecy::SecretString;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::generation::{GenerationId, MAX_BYTES};
use super::sealed::Secrets;
use super::text::{hex, unhex};

/// A generation without the signatures and seals of the nodes that it was kept by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portable {
    /// Its name where it was exported.
    pub generation: GenerationId,
    /// How many generations it was from the first.
    pub height: u64,
    /// The node that wrote the file.
    pub by: String,
    /// When, by that node's clock, in milliseconds since 1970. For people alone.
    pub time: u64,
    /// The configuration, as its author wrote it.
    pub text: String,
    /// The files that it names, and the cluster secret.
    pub secrets: Secrets,
}

/// Under what a file is sealed. It does not show itself.
pub struct Passphrase(SecretString);

impl Passphrase {
    /// Any text that is not empty.
    pub fn new(text: String) -> Option<Self> {
        (!text.is_empty()).then(|| Self(SecretString::from(text)))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

impl Portable {
    /// As the bytes of a file. `work`: the scrypt work factor, 1 to [`MOST_WORK`], the base-2 logarithm of how often and in how many
    /// KiB it hashes.
    pub fn seal(&self, passphrase: &Passphrase, work: u8) -> Result<Vec<u8>, Unwritten> {
        let plain = serde_json::to_vec(self).map_err(|_| Unwritten)?;
        let mut to = age::scrypt::Recipient::new(passphrase.0.clone());
        to.set_work_factor(work.clamp(1, MOST_WORK));
        let sealing = age::Encryptor::with_recipients(std::iter::once(&to as &dyn age::Recipient));
        let sealing = sealing.map_err(|_| Unwritten)?;
        let mut sealed = Vec::with_capacity(plain.len() + 4096);
        let written = sealing.wrap_output(&mut sealed).and_then(|mut to| {
            to.write_all(&plain)?;
            to.finish().map(drop)
        });
        written.map_err(|_| Unwritten)?;
        Ok(framed(&sealed))
    }

    /// Whether the bytes of a file are what was written, as far as can be told without the passphrase.
    pub fn look(bytes: &[u8]) -> Result<(), Unopened> {
        frame(bytes).map(drop)
    }

    /// What the bytes of a file are; they must be all of it and nothing else. What is in it is not checked.
    pub fn open(bytes: &[u8], passphrase: &Passphrase) -> Result<Self, Unopened> {
        let sealed = frame(bytes)?;
        let opening = age::Decryptor::new_buffered(sealed).map_err(|error| refused(&error))?;
        let mut by = age::scrypt::Identity::new(passphrase.0.clone());
        by.set_max_work_factor(MOST_WORK);
        let by: &dyn age::Identity = &by;
        let opened = opening.decrypt(std::iter::once(by)).map_err(|error| refused(&error))?;
        let mut plain = Vec::new();
        let limit = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
        opened.take(limit).read_to_end(&mut plain).map_err(|_| Unopened::Damaged)?;
        serde_json::from_slice(&plain).map_err(|_| Unopened::Damaged)
    }
}

/// Why the library does not open it. Before the passphrase counts, the frame has shown that it is what was written.
fn refused(error: &DecryptError) -> Unopened {
    match error {
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => Unopened::Passphrase,
        DecryptError::ExcessiveWork { required, .. } => Unopened::Work { required: *required },
        DecryptError::InvalidHeader
        | DecryptError::InvalidMac
        | DecryptError::Io(_)
        | DecryptError::NoMatchingKeys
        | DecryptError::UnknownFormat => Unopened::Damaged,
    }
}

fn framed(sealed: &[u8]) -> Vec<u8> {
    let sum = hex(digest(&SHA256, sealed).as_ref());
    let head = format!("{MAGIC} {FORMAT}\n{}\n{sum}\n", sealed.len());
    [head.as_bytes(), sealed].concat()
}

/// The age file in it.
fn frame(bytes: &[u8]) -> Result<&[u8], Unopened> {
    if bytes.len() > MOST_BYTES {
        return Err(Unopened::Other);
    }
    let Some(mut rest) = bytes.strip_prefix(MAGIC.as_bytes()) else {
        let cut = MAGIC.as_bytes().starts_with(bytes);
        return Err(if cut { Unopened::Truncated } else { Unopened::Other });
    };
    let format = line(&mut rest)?;
    match format.strip_prefix(' ').and_then(|format| format.parse::<u32>().ok()) {
        Some(number) if number > FORMAT => return Err(Unopened::Newer { format: number }),
        Some(FORMAT) if format == format!(" {FORMAT}") => {}
        Some(_) | None => return Err(Unopened::Other),
    }
    let length = line(&mut rest)?;
    let length: usize =
        length.parse().ok().filter(|n: &usize| n.to_string() == length).ok_or(Unopened::Damaged)?;
    let sum = unhex(line(&mut rest)?).ok_or(Unopened::Damaged)?;
    if rest.len() < length {
        return Err(Unopened::Truncated);
    }
    if rest.len() > length || digest(&SHA256, rest).as_ref() != sum {
        return Err(Unopened::Damaged);
    }
    Ok(rest)
}

/// The next line of the frame.
fn line<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Unopened> {
    let end = bytes.iter().take(LONGEST_LINE + 1).position(|byte| *byte == b'\n');
    let Some(end) = end else {
        let cut = bytes.len() <= LONGEST_LINE;
        return Err(if cut { Unopened::Truncated } else { Unopened::Damaged });
    };
    let (line, rest) = bytes.split_at(end);
    *bytes = &rest[1..];
    std::str::from_utf8(line).map_err(|_| Unopened::Damaged)
}

/// It could not be written as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the configuration cannot be sealed")]
pub struct Unwritten;

/// Why a file is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unopened {
    /// It is something else.
    #[error("it is no file that `rollcall config export` wrote")]
    Other,
    /// A later version wrote it.
    #[error(
        "it has format {format}, and this version of rollcall reads format {FORMAT}; hint: use the version that wrote it, or a later one"
    )]
    Newer {
        /// Its format.
        format: u32,
    },
    /// Its end is missing.
    #[error("it is not whole: its end is missing; hint: copy it again")]
    Truncated,
    /// Something in it is not what was written.
    #[error(
        "it is damaged: it is not what was written; hint: copy it again, in binary mode, or use another copy"
    )]
    Damaged,
    /// Another passphrase.
    #[error("the passphrase is wrong; hint: it is the one that was typed when the file was exported")]
    Passphrase,
    /// Opening it would cost too much.
    #[error(
        "it asks for more work than any export of rollcall does (2^{required}, and at most 2^{MOST_WORK} is done); hint: export it anew"
    )]
    Work {
        /// What it asks for.
        required: u8,
    },
}

const MAGIC: &str = "rollcall portable";

const FORMAT: u32 = 1;

/// The work factor of files that are exported: about a second, and 128 MiB.
pub const WORK: u8 = 17;

/// The greatest work factor with which a file is opened: four times as much.
pub const MOST_WORK: u8 = 19;

/// Most bytes of a file: what a generation may have, and room for how JSON writes its text.
pub const MOST_BYTES: usize = 2 * MAX_BYTES;

/// Longest line of the frame, bytes.
const LONGEST_LINE: usize = 80;

#[cfg(test)]
pub(crate) mod tests;
