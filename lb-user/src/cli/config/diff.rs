//! `rollcall config diff`: two generations side by side. Of what is sealed it is said whether it differs, not how.

use std::collections::BTreeMap;
use std::path::Path;

use similar::TextDiff;

use super::shown;
use crate::cli::output;
use crate::control::api::{CertificateFacts, FileFacts, Shown};

pub(super) fn run(run_dir: &Path, from: String, to: Option<String>, json: bool) -> anyhow::Result<()> {
    let (from, to) = (shown(run_dir, Some(from))?, shown(run_dir, to)?);
    let lines = lines(&from, &to);
    if json {
        let told = serde_json::json!({ "from": from.entry.id, "to": to.entry.id, "lines": lines });
        output::line(&told.to_string());
        return Ok(());
    }
    if lines.is_empty() {
        output::line("they say the same");
    }
    lines.iter().for_each(|line| output::line(line));
    Ok(())
}

/// A unified diff of the texts, then a line for each file that is not the same.
fn lines(from: &Shown, to: &Shown) -> Vec<String> {
    let name = |shown: &Shown| format!("generation {:.12}", shown.entry.id);
    let texts = TextDiff::from_lines(&from.text, &to.text);
    let unified = texts.unified_diff().header(&name(from), &name(to)).to_string();
    unified.lines().map(str::to_owned).chain(files(&from.files, &to.files)).collect()
}

fn files(from: &[FileFacts], to: &[FileFacts]) -> Vec<String> {
    let by_path = |files: &[FileFacts]| -> BTreeMap<String, FileFacts> {
        files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (before, after) = (by_path(from), by_path(to));
    let mut lines = Vec::new();
    for (path, file) in &after {
        match before.get(path) {
            None => lines.push(format!("+ file {path}{}", certificate(file))),
            Some(old) if old.digest != file.digest => lines.extend(changed(path, old, file)),
            Some(_) => {}
        }
    }
    lines
        .extend(before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("- file {path}")));
    lines
}

/// A file with another content: of a certificate both fingerprints, of anything else that it is another. What it is is not said, and
/// no digest that anybody could try passwords on.
fn changed(path: &str, old: &FileFacts, new: &FileFacts) -> Vec<String> {
    let described = |file: &FileFacts| match &file.certificate {
        Some(CertificateFacts { fingerprint, not_after: Some(end), .. }) => {
            format!("{fingerprint}, until {}", end.local())
        }
        Some(CertificateFacts { fingerprint, not_after: None, .. }) => fingerprint.clone(),
        None => "no certificate".to_owned(),
    };
    let mut lines = vec![format!("~ file {path}{}", certificate(new))];
    if old.certificate.is_some() || new.certificate.is_some() {
        lines.push(format!("  - {}", described(old)));
        lines.push(format!("  + {}", described(new)));
    } else {
        lines.push("  its content is another".to_owned());
    }
    lines
}

fn certificate(file: &FileFacts) -> String {
    let until = file.certificate.as_ref().and_then(|certificate| certificate.not_after);
    until.map_or_else(String::new, |end| format!(", a certificate until {}", end.local()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::GenerationEntry;
    use crate::wall::WallTime;

    fn shown(text: &str, files: &[(&str, &str)]) -> Shown {
        let entry = GenerationEntry {
            id: "0123456789abcdef".to_owned(),
            parent: None,
            height: 1,
            author: "arr1".to_owned(),
            time: WallTime::from_unix_ms(0),
            comment: String::new(),
            restores: None,
            standing: "current".to_owned(),
            at_work: true,
            whole: true,
        };
        let file = |(path, digest): &(&str, &str)| FileFacts {
            path: (*path).to_owned(),
            bytes: 1,
            digest: (*digest).to_owned(),
            certificate: None,
        };
        Shown { entry, text: text.to_owned(), files: files.iter().map(file).collect() }
    }

    #[test]
    fn lines_and_files_that_differ_are_shown_and_no_others() {
        let before = shown("a\nb\nc\n", &[("/gone", "1"), ("/same", "1"), ("/new-content", "1")]);
        let after = shown("a\nB\nc\n", &[("/same", "1"), ("/new-content", "2"), ("/new", "1")]);
        let wanted = [
            "--- generation 0123456789ab",
            "+++ generation 0123456789ab",
            "@@ -1,3 +1,3 @@",
            " a",
            "-b",
            "+B",
            " c",
            "+ file /new",
            "~ file /new-content",
            "  its content is another",
            "- file /gone",
        ];
        assert_eq!(lines(&before, &after), wanted);
        assert_eq!(lines(&before, &before), [] as [&str; 0]);
    }
}
