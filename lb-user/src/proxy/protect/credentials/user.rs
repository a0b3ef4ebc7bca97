//! A user's name, in the one spelling by which it is counted.
//!
//! Two spellings are the same user only where they surely are: case apart. `EXAMPLE\ann` and `ann@example.test` may be two people
//! (a UPN's name and domain are free to choose), so they are counted apart, and so are `ann` alone and whatever Windows
//! folds together beyond case. Who guesses one user's password under many spellings therefore gets some tries for each; but
//! he looks like one who tries many users, which is what a network is refused for.

use std::borrow::Cow;
use std::fmt;

/// A user that somebody claims to be; not empty, and of at most [`User::LONGEST`] characters. Does not show itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User(String);

impl User {
    /// A domain's DNS name has at most 255 characters, a user's name in Windows 256 (UNLEN), and between them is a separator.
    pub const LONGEST: usize = 255 + 1 + 256;

    /// The user in bytes that are UTF-8 or, failing that, ISO 8859-1: what browsers send by RFC 7617 and before it. Nothing is
    /// percent-decoded here, because no server does.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        // No character of a user takes more than four bytes.
        if bytes.len() > Self::LONGEST * 4 {
            return None;
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
        };
        Self::new(&text)
    }

    /// The user `name` of `domain`, which may be empty: then the name may itself say more.
    pub(super) fn of_domain(domain: &str, name: &str) -> Option<Self> {
        match (domain.is_empty(), name.is_empty()) {
            (_, true) => None,
            (true, false) => Self::new(name),
            (false, false) => Self::new(&format!("{domain}\\{name}")),
        }
    }

    /// The value of `username` in a form's body, or in as much of it as came (application/x-www-form-urlencoded).
    pub(super) fn of_form(body: &[u8]) -> Option<Self> {
        let body = &body[..body.len().min(super::FORM_BYTES)];
        let value = body.split(|&byte| byte == b'&').find_map(|field| field.strip_prefix(b"username="))?;
        Self::of_bytes(&percent_decoded(value))
    }

    /// What is hashed in place of the user.
    pub(in super::super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.chars().nth(Self::LONGEST).is_none();
        fits.then(|| Self(text.chars().map(folded).collect()))
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(..)")
    }
}

/// The lower case of a character that has one, which has this one alone for its upper case. Others, such as the Kelvin sign
/// and the dotted I, may not be what they look like to Windows.
fn folded(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) if lower.to_uppercase().eq([character]) => lower,
        _ => character,
    }
}

/// Plus for blank and `%` with two digits; a `%` without them is itself.
fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        if escaped.is_some() {
            rest = &tail[2..];
        }
        decoded.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(text: &str) -> String {
        User::of_bytes(text.as_bytes()).unwrap().0
    }

    #[test]
    fn spellings_that_are_surely_the_same_are_one_user() {
        for (one, other, same) in [
            ("EXAMPLE\\Ann", "example\\ann", true),
            ("Ann@Example.Test", "ann@example.test", true),
            ("JÜRGEN", "jürgen", true),
            ("ΣΟΦΙΑ", "σοφια", true),
            ("EXAMPLE\\ann", "ann@example", false),
            ("EXAMPLE\\ann", "ann", false),
            ("ann", "ann ", false),
            ("\u{212a}arl", "karl", false),
            ("\u{130}da", "ida", false),
            ("stra\u{df}e", "strasse", false),
        ] {
            assert_eq!(user(one) == user(other), same, "{one} {other}");
        }
    }

    #[test]
    fn latin_1_and_utf_8_are_one_user() {
        assert_eq!(User::of_bytes(b"j\xfcrgen"), User::of_bytes("jürgen".as_bytes()));
    }

    #[test]
    fn a_user_is_bounded() {
        let of = |length: usize| User::of_bytes("ä".repeat(length).as_bytes());
        assert!(of(0).is_none());
        assert!(of(User::LONGEST).is_some());
        assert!(of(User::LONGEST + 1).is_none());
        assert!(User::of_domain(&"d".repeat(255), &"u".repeat(256)).is_some());
        assert!(User::of_domain("d", "").is_none());
    }

    #[test]
    fn a_form_names_its_user_once_and_in_plain_bytes() {
        for (form, wanted) in [
            ("destination=x&flags=4&username=EXAMPLE%5cAnn&password=secret", Some("example\\ann")),
            ("username=ann%40example.test", Some("ann@example.test")),
            ("username=J%c3%bcrgen+M&password=", Some("jürgen m")),
            ("username=j%fcrgen", Some("jürgen")),
            ("username=100%&x", Some("100%")),
            ("username=%4", Some("%4")),
            ("username=ann&username=bob", Some("ann")),
            ("xusername=ann", None),
            ("username=&password=x", None),
            ("", None),
        ] {
            let read = User::of_form(form.as_bytes()).map(|user| user.0);
            assert_eq!(read.as_deref(), wanted, "{form}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_bounded_user_or_none(bytes: Vec<u8>) {
            for user in [User::of_bytes(&bytes), User::of_form(&[b"username=", &bytes[..]].concat())].into_iter().flatten() {
                prop_assert!((1..=User::LONGEST).contains(&user.0.chars().count()));
            }
        }

        #[test]
        fn folding_is_done_once_and_for_all(text in "\\PC{1,20}") {
            prop_assert_eq!(user(&user(&text)), user(&text));
        }

        #[test]
        fn what_a_browser_encodes_is_read_back(text in "\\PC{1,40}") {
            let mut form = b"flags=4&username=".to_vec();
            for byte in text.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => form.push(byte),
                    b' ' => form.push(b'+'),
                    other => form.extend(format!("%{other:02X}").bytes()),
                }
            }
            form.extend(b"&password=x");
            prop_assert_eq!(User::of_form(&form), User::of_bytes(text.as_bytes()));
        }
    }
}
