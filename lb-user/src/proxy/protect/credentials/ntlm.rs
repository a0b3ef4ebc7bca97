//! NTLM's messages (MS-NLMP, section 2.2.1), as far as they say who logs on.

use super::User;

/// A message that a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ntlm {
    /// The first: nobody is named yet.
    Negotiate,
    /// The last, with the proof of who this is.
    Authenticate(User),
    /// The last, of nobody (section 3.2.5.1.2: an empty user name).
    Anonymous,
    /// None of these.
    Malformed,
}

/// Reads a message from its first byte; what follows it is not looked at.
pub fn message(bytes: &[u8]) -> Ntlm {
    match (bytes.starts_with(SIGNATURE), number(bytes, 8)) {
        (true, Some(1)) => Ntlm::Negotiate,
        (true, Some(3)) => authenticate(bytes).unwrap_or(Ntlm::Malformed),
        (_, _) => Ntlm::Malformed,
    }
}

/// Whether these bytes begin as NTLM's messages do.
pub(super) fn is_ntlm(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// The domain and the user that the last message names, as they are spelled there; either may be empty.
pub(super) fn named(bytes: &[u8]) -> Option<(String, String)> {
    (is_ntlm(bytes) && number(bytes, 8) == Some(3)).then(|| parties(bytes)).flatten()
}

fn authenticate(bytes: &[u8]) -> Option<Ntlm> {
    let (domain, name) = parties(bytes)?;
    if name.is_empty() {
        return Some(Ntlm::Anonymous);
    }
    User::of_domain(&domain, &name).map(Ntlm::Authenticate)
}

/// Of an AUTHENTICATE_MESSAGE (section 2.2.1.3).
fn parties(bytes: &[u8]) -> Option<(String, String)> {
    let charset = if number(bytes, FLAGS)? & UNICODE == 0 { Charset::Oem } else { Charset::Utf16 };
    Some((charset.text(field(bytes, DOMAIN)?)?, charset.text(field(bytes, USER)?)?))
}

/// What one of the message's fields (length, room, offset) points to.
fn field(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let offset = usize::try_from(number(bytes, at + 4)?).ok()?;
    if length > TEXT {
        return None;
    }
    // An empty field may point anywhere.
    if length == 0 { Some(&[]) } else { bytes.get(offset..offset.checked_add(length)?) }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[derive(Clone, Copy)]
enum Charset {
    Utf16,
    /// A code page of the client's, which nobody tells us. Only ASCII is the same in all of them.
    Oem,
}

impl Charset {
    fn text(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Utf16 => {
                let (units, rest) = bytes.as_chunks::<2>();
                let text = String::from_utf16(
                    &units.iter().map(|unit| u16::from_le_bytes(*unit)).collect::<Vec<_>>(),
                );
                if rest.is_empty() { text.ok() } else { None }
            }
            // A zero byte is UTF-16 under a wrong flag, and the server may know better.
            Self::Oem => (bytes.is_ascii() && !bytes.contains(&0))
                .then(|| bytes.iter().map(|&byte| char::from(byte)).collect()),
        }
    }
}

const SIGNATURE: &[u8] = b"NTLMSSP\0";

/// Offsets of the fields.
const DOMAIN: usize = 28;
const USER: usize = 36;
const FLAGS: usize = 60;

/// NTLMSSP_NEGOTIATE_UNICODE (section 2.2.2.5); where both charsets are flagged it is this one.
const UNICODE: u32 = 1;

/// Most bytes of a domain or a user: 256 characters of UTF-16, and as many again for surrogates.
const TEXT: usize = 1024;
