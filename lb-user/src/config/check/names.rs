//! Host names of sites, as operators write them: whole ones, and all of a domain.

use super::Problems;
use crate::config::problem::Problem;
use crate::config::spanned::Spanned;

/// The names of a site. `place`: what is pointed at if there are none.
pub(super) fn host_names(
    raw: &[Spanned<String>],
    place: std::ops::Range<usize>,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    if raw.is_empty() {
        let problem = Problem::at(place, "`names` is empty: a site needs at least one host name");
        problems.add(problem.hint("names = [\"mail.example.test\"]"));
    }
    let mut names = Vec::new();
    for (at, name) in raw.iter().enumerate() {
        match site_name(name, at == 0) {
            Ok(name) => names.push(name),
            Err(problem) => problems.add(problem),
        }
    }
    (!names.is_empty() && names.len() == raw.len()).then_some(names)
}

/// A host name, or `*.` and the domain in which it stands for every name with one label more (RFC 9525, 6.3).
fn site_name(raw: &Spanned<String>, first: bool) -> Result<String, Problem> {
    let text = raw.get_ref();
    if !text.contains('*') {
        return host_name(text).ok_or_else(|| not_a_host_name(raw));
    }
    let domain = text.strip_prefix("*.").and_then(host_name);
    let Some(domain) = domain.filter(|domain| domain.contains('.')) else {
        let problem =
            Problem::at(raw.span(), format!("\"{text}\" is neither a host name nor all names of a domain"));
        return Err(problem.hint(
            "`*` stands for the whole first label, before a domain of two or more in lower case: \"*.example.test\"",
        ));
    };
    if first {
        let text = "the first of a site's `names` stands for many: it is what servers are asked for and have to prove themselves as";
        let hint = format!("put a whole one before it: names = [\"www.{domain}\", \"*.{domain}\"]");
        return Err(Problem::at(raw.span(), text).hint(hint));
    }
    Ok(text.clone())
}

/// Whether `name`, a host name, is one of `names` or one that a wildcard among them stands for.
pub(super) fn is_among(name: &str, names: &[Spanned<String>]) -> bool {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|known| {
        let known = known.get_ref();
        known == name || parent.is_some_and(|parent| known.strip_prefix("*.") == Some(parent))
    })
}

/// RFC 1123 host name in lower case, not an address.
pub(super) fn host_name(text: &str) -> Option<String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(letter)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let address = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (text.len() <= 253 && text.split('.').all(label) && !address).then(|| text.to_owned())
}

pub(super) fn not_a_host_name(raw: &Spanned<String>) -> Problem {
    let text = raw.get_ref();
    let problem = Problem::at(raw.span(), format!("\"{text}\" is not a host name in lower case"));
    let lower = text.to_ascii_lowercase();
    match host_name(&lower) {
        Some(lower) => problem.hint(format!("\"{lower}\"")),
        None if text.contains('*') => problem.hint("list the names one by one"),
        None => problem.hint("a name such as \"mail.example.test\", without scheme, port or path"),
    }
}
