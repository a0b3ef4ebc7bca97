//! What a `Negotiate` token carries: SPNEGO (RFC 4178) around another mechanism's token, or that token by itself (RFC 4559 and
//! MS-SPNG both happen).
//!
//! Definite lengths in any number of bytes up to four are read, as Windows does: a client that wants to be misread must not
//! find a spelling that only the server understands. No more than three levels are opened, and each byte is looked at once.

use super::ntlm;

/// A mechanism's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// NTLM's message.
    Ntlm(&'a [u8]),
    /// A Kerberos ticket: whose, only the server can read.
    Kerberos,
    /// Another mechanism's (NEGOEX), or none at all.
    Other,
    /// No token that a server could read.
    Malformed,
}

/// The token in the bytes of `Authorization: Negotiate`.
pub fn token(bytes: &[u8]) -> Token<'_> {
    if ntlm::is_ntlm(bytes) {
        return Token::Ntlm(bytes);
    }
    match Element::first(bytes) {
        Some((Element { tag: GSS, content }, _)) => initial(content),
        Some((Element { tag: INIT | RESPONSE, .. }, _)) => negotiation(bytes),
        Some(_) | None => Token::Malformed,
    }
}

/// A GSS-API token with its mechanism's name (RFC 2743, section 3.1).
fn initial(content: &[u8]) -> Token<'_> {
    match Element::first(content) {
        Some((Element { tag: OID, content: SPNEGO }, inner)) => negotiation(inner),
        Some((Element { tag: OID, content: KERBEROS | KERBEROS_MICROSOFT | KERBEROS_USER }, _)) => {
            Token::Kerberos
        }
        Some((Element { tag: OID, .. }, inner)) if ntlm::is_ntlm(inner) => Token::Ntlm(inner),
        Some((Element { tag: OID, .. }, _)) => Token::Other,
        Some(_) | None => Token::Malformed,
    }
}

/// NegotiationToken (RFC 4178, section 4.2): the field with the mechanism's token has the number 2 in both of its kinds.
fn negotiation(bytes: &[u8]) -> Token<'_> {
    let Some((Element { tag: INIT | RESPONSE, content }, _)) = Element::first(bytes) else {
        return Token::Malformed;
    };
    let Some((Element { tag: SEQUENCE, content: mut fields }, _)) = Element::first(content) else {
        return Token::Malformed;
    };
    let mut found = None;
    while !fields.is_empty() {
        let Some((field, rest)) = Element::first(fields) else {
            return Token::Malformed;
        };
        if field.tag == MECHANISM_TOKEN && found.replace(field.content).is_some() {
            return Token::Malformed;
        }
        fields = rest;
    }
    match found.map(Element::first) {
        None => Token::Other,
        Some(Some((Element { tag: OCTETS, content }, _))) => mechanism(content),
        Some(_) => Token::Malformed,
    }
}

/// A mechanism's own token, of which none is SPNEGO again.
fn mechanism(bytes: &[u8]) -> Token<'_> {
    if ntlm::is_ntlm(bytes) {
        return Token::Ntlm(bytes);
    }
    match Element::first(bytes) {
        Some((Element { tag: GSS, content }, _)) => match Element::first(content) {
            Some((Element { tag: OID, content: SPNEGO }, _)) => Token::Malformed,
            Some(_) | None => initial(content),
        },
        Some(_) | None => Token::Other,
    }
}

/// A value of DER, with its tag.
#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

impl<'a> Element<'a> {
    /// The first of `bytes`, and what follows it.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[tag, length], rest) = bytes.split_first_chunk()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
            }
            0x80 | 0x85.. => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((Self { tag, content }, rest))
    }
}

/// `[APPLICATION 0]`.
const GSS: u8 = 0x60;
/// NegTokenInit.
const INIT: u8 = 0xa0;
/// NegTokenResp.
const RESPONSE: u8 = 0xa1;
/// mechToken and responseToken.
const MECHANISM_TOKEN: u8 = 0xa2;
const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;

/// 1.3.6.1.5.5.2.
const SPNEGO: &[u8] = &[0x2b, 6, 1, 5, 5, 2];
/// 1.2.840.113554.1.2.2.
const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2];
/// 1.2.840.48018.1.2.2, which Windows 2000 made of it (MS-SPNG, section 3.1.5.2).
const KERBEROS_MICROSOFT: &[u8] = &[0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 1, 2, 2];
/// 1.2.840.113554.1.2.2.3, user to user.
const KERBEROS_USER: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 3];
