//! Texts with `*` for any text, compared without case. Pure.

use memchr::memmem;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wildcard {
    /// What stands before the first `*`; all, if there is none.
    first: Vec<u8>,
    /// What stands behind each, in lower case.
    others: Vec<Vec<u8>>,
}

impl Wildcard {
    /// Reads `text`, in which nothing but `*` has a meaning.
    pub fn new(text: &str) -> Self {
        let mut parts = text.split('*').map(|part| part.to_ascii_lowercase().into_bytes());
        Self { first: parts.next().unwrap_or_default(), others: parts.collect() }
    }

    /// Whether all of `text` is such a text.
    pub fn fits(&self, text: &[u8]) -> bool {
        let text = text.to_ascii_lowercase();
        let Some((last, between)) = self.others.split_last() else {
            return text == self.first;
        };
        let rest = text.strip_prefix(self.first.as_slice());
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(last.as_slice())) else {
            return false;
        };
        // The first place is as good as any: what is left behind it is the most.
        for part in between {
            let Some(at) = memmem::find(rest, part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_text_and_nothing_else_is() {
        for (wildcard, text, fits) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("phone", "PHONE", true),
            ("phone", "phones", false),
            ("phone*", "phones", true),
            ("*Outlook*", "Microsoft Office/16.0 (Microsoft Outlook 16.0)", true),
            ("*Outlook", "Outlook 16", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-c-b", false),
            ("a*b*c", "a-b-c", true),
            ("a**c", "ac", true),
            ("a?c", "abc", false),
            ("*.*", "x.y", true),
        ] {
            assert_eq!(Wildcard::new(wildcard).fits(text.as_bytes()), fits, "{wildcard} {text}");
        }
    }

    /// The meaning, without regard to time.
    fn by_definition(wildcard: &[u8], text: &[u8]) -> bool {
        match wildcard.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| by_definition(rest, &text[at..])),
            Some((first, rest)) => {
                text.split_first().is_some_and(|(same, behind)| same == first && by_definition(rest, behind))
            }
        }
    }

    proptest! {
        #[test]
        fn what_fits_is_what_the_meaning_says(wildcard in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let fits = Wildcard::new(&wildcard).fits(text.as_bytes());
            prop_assert_eq!(fits, by_definition(wildcard.as_bytes(), text.as_bytes()));
        }
    }
}
