//! Line endings over an edit. The editor of documents writes all lines as Unix does; those that it did not touch get back what they
//! ended with.

/// `new`, whose lines end in LF, with the endings that lines of `old` have. An edit changes one run of lines: those before and
/// behind it are as they were, those of it end as most lines of `old` do.
pub(super) fn with_old_endings(old: &str, new: &str) -> String {
    let (old_lines, new_lines) = (lines(old), lines(new));
    let same = |(old, new): &(&&str, &&str)| bare(old) == bare(new);
    let before = old_lines.iter().zip(&new_lines).take_while(same).count();
    let room = old_lines.len().min(new_lines.len()) - before;
    let behind = old_lines.iter().rev().zip(new_lines.iter().rev()).take_while(same).count().min(room);
    let changed = &new_lines[before..new_lines.len() - behind];
    let ending = usual_ending(&old_lines);
    let mut text = old_lines[..before].concat();
    let whole = text.is_empty() || text.ends_with('\n');
    let last = changed.is_empty() && behind == 0;
    if !whole && !last {
        text.push_str(ending);
    }
    changed.iter().for_each(|line| {
        text.push_str(bare(line));
        if line.ends_with('\n') {
            text.push_str(ending);
        }
    });
    text.push_str(&old_lines[old_lines.len() - behind..].concat());
    text
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// The line without its ending.
fn bare(line: &str) -> &str {
    line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')).unwrap_or(line)
}

fn usual_ending(lines: &[&str]) -> &'static str {
    let windows = lines.iter().filter(|line| line.ends_with("\r\n")).count();
    if windows * 2 > lines.len() { "\r\n" } else { "\n" }
}
