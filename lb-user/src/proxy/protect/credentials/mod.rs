//! Whom a request claims to come from, read from what it brings to log on. Bytes here are hostile: every offset and length
//! is checked, what is read of a user is bounded, and what cannot be read is a claim too.
//!
//! Nothing here says whether a claim is true; the server does (`logon::Outcome`). Who a NTLM connection was logged on as
//! before is not asked: the claim is made once, with the request that carries it.

pub mod ntlm;
pub mod spnego;
mod user;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use self::ntlm::Ntlm;
use self::spnego::Token;
pub use self::user::User;

/// An attempt to log on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// By which way.
    pub scheme: Scheme,
    /// Who it says it is.
    pub who: Who,
    /// Bytes that are the same when the same password is tried again: Basic's. A phone that goes on with yesterday's password
    /// guesses nothing.
    pub secret: Option<&'a [u8]>,
}

/// How a client proves who it is, as far as the answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Basic` (RFC 7617).
    Basic,
    /// The last message of an NTLM handshake (MS-NLMP, AUTHENTICATE_MESSAGE), under `NTLM` or `Negotiate` (RFC 4559).
    Ntlm,
    /// Anything else under `Negotiate`; in practice Kerberos, which may take more than one message.
    Negotiate,
    /// OWA's form, posted to `/owa/auth.owa`.
    Form,
}

/// Who a claim is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// This user.
    User(User),
    /// What no sound client sends, so that a server might see a user in it where we see none. Its network answers for all
    /// of these together, as if they were one user.
    Unreadable,
    /// Nobody by name: a Kerberos ticket, which only the server can open and no password can be guessed with; an anonymous
    /// NTLM logon; a form that was not read. Only its network is counted.
    Unnamed,
}

impl<'a> Claim<'a> {
    /// The claim in the value of the one `Authorization` field. `None` where no password can be guessed: the first message of
    /// an NTLM handshake, a bearer token, a scheme that Exchange does not have.
    pub fn of_authorization(value: &'a [u8]) -> Option<Self> {
        let (scheme, text) = scheme_and_token(value);
        let token = decoded(text);
        if scheme.eq_ignore_ascii_case(b"basic") {
            let who = token.and_then(|token| basic(&token)).map_or(Who::Unreadable, Who::User);
            return Some(Self { scheme: Scheme::Basic, who, secret: Some(text) });
        }
        if scheme.eq_ignore_ascii_case(b"ntlm") {
            let Some(token) = token else {
                return Some(Self::unreadable(Scheme::Ntlm));
            };
            return Self::of_ntlm(&token);
        }
        if scheme.eq_ignore_ascii_case(b"negotiate") {
            return match token.as_deref().map(spnego::token) {
                None | Some(Token::Malformed) => Some(Self::unreadable(Scheme::Negotiate)),
                Some(Token::Ntlm(message)) => Self::of_ntlm(message),
                Some(Token::Kerberos | Token::Other) => Some(Self::unnamed(Scheme::Negotiate)),
            };
        }
        None
    }

    /// The claim of a POST to `/owa/auth.owa`. `form`: the first bytes of its body, of which [`FORM_BYTES`] are enough for
    /// what a browser sends; `None` where the body is not looked at.
    pub fn of_owa_form(form: Option<&[u8]>) -> Claim<'static> {
        match form.map(User::of_form) {
            Some(Some(user)) => Claim { scheme: Scheme::Form, who: Who::User(user), secret: None },
            Some(None) => Claim::unreadable(Scheme::Form),
            None => Claim::unnamed(Scheme::Form),
        }
    }

    /// The claim of a request that makes several, of which a server may read any.
    pub fn contradictory(scheme: Scheme) -> Self {
        Self::unreadable(scheme)
    }

    fn of_ntlm(message: &[u8]) -> Option<Self> {
        match ntlm::message(message) {
            Ntlm::Negotiate => None,
            Ntlm::Anonymous => Some(Self::unnamed(Scheme::Ntlm)),
            Ntlm::Malformed => Some(Self::unreadable(Scheme::Ntlm)),
            Ntlm::Authenticate(user) => {
                Some(Self { scheme: Scheme::Ntlm, who: Who::User(user), secret: None })
            }
        }
    }

    fn unreadable(scheme: Scheme) -> Self {
        Self { scheme, who: Who::Unreadable, secret: None }
    }

    fn unnamed(scheme: Scheme) -> Self {
        Self { scheme, who: Who::Unnamed, secret: None }
    }
}

/// Bytes of a form's body that are enough to read its user from.
pub const FORM_BYTES: usize = 8192;

/// Base64 with or without padding. What a request head can hold is 64 KiB; more is not looked at.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    (text.len() <= TOKEN_TEXT).then(|| BASE64.decode(text).ok()).flatten()
}

/// `user:password` (RFC 7617, section 2): a user has no colon.
fn basic(pair: &[u8]) -> Option<User> {
    let colon = pair.iter().position(|&byte| byte == b':')?;
    User::of_bytes(&pair[..colon])
}

/// The user in the value of an `Authorization` field, as it is spelled there and without its password; for the log. `None`: it names
/// none, as all but Basic's and NTLM's last message do.
pub fn spelled(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, token) = scheme_and_token(value);
    if scheme.eq_ignore_ascii_case(b"basic") {
        let mut pair = decoded(token)?;
        let colon = pair.iter().position(|&byte| byte == b':')?;
        pair.truncate(colon);
        return Some(pair);
    }
    let windows = scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate");
    let token = decoded(token).filter(|_| windows)?;
    let (domain, name) = match spnego::token(&token) {
        Token::Ntlm(message) => ntlm::named(message)?,
        Token::Kerberos | Token::Other | Token::Malformed => return None,
    };
    let whole = if domain.is_empty() || name.is_empty() { name } else { format!("{domain}\\{name}") };
    Some(whole.into_bytes())
}

fn scheme_and_token(value: &[u8]) -> (&[u8], &[u8]) {
    let end = value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    (&value[..end], value[end..].trim_ascii())
}

/// Servers read what others refuse: no padding, bits that are not used.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

const TOKEN_TEXT: usize = 64 << 10;

#[cfg(test)]
mod tests;
