//! What a pattern says plainly: all paths, a folder, host names, and whether it holds of every request over TLS. Pure. What it does not
//! recognise it leaves to the rule itself; routes made of it only give bounds.

use crate::proxy::rewrite::pattern::{Pattern, Syntax};
use crate::proxy::rewrite::spec::{ConditionSpec, ConditionsSpec, Grouping, PatternSpec};

/// Whether conditions hold of a request over TLS, whatever else it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Always,
    Never,
    Depends,
}

/// Whether it matches every path.
pub(super) fn is_all(url: &PatternSpec, syntax: Syntax) -> bool {
    let all: &[&str] = match syntax {
        Syntax::Ecmascript => &["", ".*", "(.*)", "^(.*)$", "^.*$", "^(.*)", "(.*)$", "^.*", ".*$", "^"],
        Syntax::Wildcard => &["*"],
        Syntax::ExactMatch => &[],
    };
    !url.negate && all.contains(&url.pattern.as_str())
}

/// Whether `{R:n}` of such a pattern is the whole path.
pub(super) fn is_whole(url: &PatternSpec, syntax: Syntax, number: char) -> bool {
    let grouped = matches!(syntax, Syntax::Wildcard) || url.pattern.contains('(');
    is_all(url, syntax)
        && !url.pattern.is_empty()
        && url.pattern != "^"
        && (number == '0' || number == '1' && grouped)
}

/// Whether `conditions` hold over TLS at `port`.
pub(super) fn over_tls(conditions: &ConditionsSpec, syntax: Syntax, port: u16) -> Truth {
    let each: Vec<Truth> = conditions.list.iter().map(|condition| one(condition, syntax, port)).collect();
    let all = |truth| each.iter().all(|one| *one == truth);
    match conditions.grouping {
        Grouping::MatchAll if all(Truth::Always) => Truth::Always,
        Grouping::MatchAll if each.contains(&Truth::Never) => Truth::Never,
        Grouping::MatchAny if each.is_empty() || each.contains(&Truth::Always) => Truth::Always,
        Grouping::MatchAny if all(Truth::Never) => Truth::Never,
        Grouping::MatchAll | Grouping::MatchAny => Truth::Depends,
    }
}

fn one(ConditionSpec { input, pattern }: &ConditionSpec, syntax: Syntax, port: u16) -> Truth {
    let port = port.to_string();
    let value = match input.trim().to_ascii_uppercase().as_str() {
        "{HTTPS}" => "ON",
        "{SERVER_PORT_SECURE}" => "1",
        "{SERVER_PORT}" => &port,
        _ => return Truth::Depends,
    };
    match Pattern::compile(syntax, &pattern.pattern, pattern.ignore_case).map(|compiled| compiled.find(value))
    {
        Ok(Ok(found)) if found.is_some() != pattern.negate => Truth::Always,
        Ok(Ok(_)) => Truth::Never,
        Ok(Err(_)) | Err(_) => Truth::Depends,
    }
}

/// The folders that a pattern for paths begins with, such as `/owa`; empty: none is said.
pub(super) fn folders(url: &PatternSpec, syntax: Syntax) -> Vec<String> {
    if url.negate {
        return Vec::new();
    }
    let texts = match syntax {
        Syntax::ExactMatch => vec![url.pattern.clone()],
        Syntax::Wildcard => vec![url.pattern.split(['*', '?']).next().unwrap_or_default().to_owned()],
        Syntax::Ecmascript => {
            url.pattern.strip_prefix('^').map(|rest| beginnings(rest).0).unwrap_or_default()
        }
    };
    let folders: Vec<String> = texts.iter().map(|text| format!("/{}", text.trim_matches('/'))).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let sound = |folder: &String| folder.len() > 1 && folder.chars().all(plain) && !folder.contains("..");
    if folders.iter().all(|folder| sound(folder) && !folder.contains("//") && !folder.contains("/.")) {
        folders
    } else {
        Vec::new()
    }
}

/// The host names that a pattern is for; empty: it is for others, too.
pub(super) fn hosts(pattern: &PatternSpec, syntax: Syntax) -> Vec<String> {
    if pattern.negate {
        return Vec::new();
    }
    let texts = match syntax {
        Syntax::ExactMatch | Syntax::Wildcard => vec![pattern.pattern.clone()],
        Syntax::Ecmascript => {
            // Nothing may follow the names.
            match beginnings(pattern.pattern.trim_start_matches('^').trim_end_matches('$')) {
                (names, true) => names,
                (_, false) => Vec::new(),
            }
        }
    };
    let names: Vec<String> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
    if names.iter().all(|name| is_host_name(name)) { names } else { Vec::new() }
}

/// A host name of two labels or more, or all names of a domain.
pub(super) fn is_host_name(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        let plain = label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.contains('.') && name.split('.').all(label) && !number
}

/// The plain texts that an ECMAScript pattern without `^` begins with, one, or those of a first group such as `(owa|ecp)`; and whether they are
/// all of it.
fn beginnings(pattern: &str) -> (Vec<String>, bool) {
    let group = pattern.strip_prefix("(?:").or_else(|| pattern.strip_prefix('('));
    let Some((inner, rest)) = group.and_then(|group| group.split_once(')')) else {
        let (text, whole) = literal(pattern);
        return (vec![text], whole);
    };
    let all: Vec<(String, bool)> = inner.split('|').map(literal).collect();
    if rest.starts_with(['?', '*', '+', '{']) || all.iter().any(|(_, whole)| !whole) {
        return (vec![String::new()], false);
    }
    // What goes on behind the group counts as far as it is plain.
    let (behind, whole) = literal(rest);
    (all.into_iter().map(|(text, _)| format!("{text}{behind}")).collect(), whole)
}

/// The plain text that a pattern begins with, and whether that is all of it.
fn literal(pattern: &str) -> (String, bool) {
    let mut text = String::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        let plain = match letter {
            '\\' => letters.next().filter(|escaped| !escaped.is_ascii_alphanumeric()),
            // Written for the character by most.
            '.' if !letters.peek().is_some_and(|next| "*+?{".contains(*next)) => Some('.'),
            letter if letter.is_ascii_alphanumeric() || "-_/".contains(letter) => Some(letter),
            _ => None,
        };
        let Some(plain) = plain else {
            return (text, false);
        };
        if letters.peek().is_some_and(|next| "*?{".contains(*next)) {
            return (text, false);
        }
        text.push(plain);
    }
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(pattern: &str) -> PatternSpec {
        PatternSpec { pattern: pattern.to_owned(), ignore_case: true, negate: false }
    }

    #[test]
    fn folders_are_found_where_they_are_plain() {
        for (syntax, pattern, wanted) in [
            (Syntax::Wildcard, "owa*", &["/owa"][..]),
            (Syntax::Wildcard, "owa/*", &["/owa"]),
            (Syntax::Wildcard, "*", &[]),
            (Syntax::ExactMatch, "owa/auth", &["/owa/auth"]),
            (Syntax::Ecmascript, "^owa(/.*)?$", &["/owa"]),
            (Syntax::Ecmascript, "^(owa|ecp)(/|$)", &["/owa", "/ecp"]),
            (Syntax::Ecmascript, "^microsoft-server-activesync.*", &["/microsoft-server-activesync"]),
            (Syntax::Ecmascript, "^mapi/?", &["/mapi"]),
            (Syntax::Ecmascript, "owa", &[]),
            (Syntax::Ecmascript, "^(owa|e.*)", &[]),
            (Syntax::Ecmascript, "^(owa)?x", &[]),
            (Syntax::Ecmascript, "^$", &[]),
        ] {
            assert_eq!(folders(&spec(pattern), syntax), wanted, "{pattern}");
        }
    }

    #[test]
    fn host_names_are_found_where_they_are_plain() {
        for (syntax, pattern, wanted) in [
            (Syntax::Wildcard, "mail.example.test", &["mail.example.test"][..]),
            (Syntax::Wildcard, "*.example.test", &["*.example.test"]),
            (Syntax::Wildcard, "mail.*", &[]),
            (Syntax::Ecmascript, "^mail\\.example\\.test$", &["mail.example.test"]),
            (Syntax::Ecmascript, "mail.Example.test", &["mail.example.test"]),
            (
                Syntax::Ecmascript,
                "^(mail|autodiscover)\\.example\\.test$",
                &["mail.example.test", "autodiscover.example.test"],
            ),
            (Syntax::Ecmascript, "^mail\\.", &[]),
            (Syntax::Ecmascript, "^.*\\.example\\.test$", &[]),
            (Syntax::Ecmascript, "^10\\.0\\.0\\.1$", &[]),
        ] {
            assert_eq!(hosts(&spec(pattern), syntax), wanted, "{pattern}");
        }
    }

    #[test]
    fn what_holds_over_tls_is_known() {
        let condition =
            |input: &str, pattern: &str| ConditionSpec { input: input.to_owned(), pattern: spec(pattern) };
        let truth = |grouping, list: Vec<ConditionSpec>| {
            over_tls(&ConditionsSpec { grouping, list, ..ConditionsSpec::default() }, Syntax::Ecmascript, 443)
        };
        let (on, off) = (condition("{HTTPS}", "^on$"), condition("{HTTPS}", "off"));
        let host = condition("{HTTP_HOST}", "a");
        let port = condition("{SERVER_PORT}", "^443$");
        for (grouping, list, wanted) in [
            (Grouping::MatchAll, vec![], Truth::Always),
            (Grouping::MatchAll, vec![on.clone(), port], Truth::Always),
            (Grouping::MatchAll, vec![host.clone(), off.clone()], Truth::Never),
            (Grouping::MatchAll, vec![on.clone(), host.clone()], Truth::Depends),
            (Grouping::MatchAny, vec![off.clone(), on], Truth::Always),
            (Grouping::MatchAny, vec![off.clone()], Truth::Never),
            (Grouping::MatchAny, vec![off, host], Truth::Depends),
        ] {
            assert_eq!(truth(grouping, list.clone()), wanted, "{list:?}");
        }
    }
}
