//! What Windows' tools print, as records of named fields: PowerShell's lists (`Name : value`) and tables, and the `NAME = value` and tables
//! of `nlb params`. Pure. Which record is what is for `nlb`.

use std::collections::BTreeMap;

/// Fields that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// By name in lower case and without spaces.
    pub fields: BTreeMap<String, Field>,
}

/// A field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Its name as it was printed.
    pub name: String,
    /// Its value, trimmed.
    pub value: String,
    /// Its line, from 1.
    pub line: usize,
}

impl Record {
    /// The value of the first of these fields that is there.
    pub fn first(&self, names: &[&str]) -> Option<&Field> {
        names.iter().find_map(|name| self.fields.get(*name))
    }

    fn add(&mut self, name: &str, value: &str, line: usize) {
        // `NumberOfRules (4)`.
        let plain = name.split('(').next().unwrap_or_default();
        let key: String = plain.chars().filter(|c| !c.is_whitespace()).collect();
        let field = Field { name: name.to_owned(), value: value.trim().to_owned(), line };
        self.fields.insert(key.to_ascii_lowercase(), field);
    }
}

/// All records of `text` in their order, and the lines in which there is none: number and text.
pub fn records(text: &str) -> (Vec<Record>, Vec<(usize, String)>) {
    let lines: Vec<&str> = text.lines().map(str::trim_end).take(MOST_LINES).collect();
    let (mut records, mut other, mut list) = (Vec::new(), Vec::new(), Record::default());
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let ruled =
            lines.get(at + 1).filter(|next| is_rule(next) && !is_rule(line) && !line.trim().is_empty());
        if let Some(rule) = ruled {
            close(&mut list, &mut records);
            at = table(&lines, at, rule, &mut records);
            continue;
        }
        match pair(line) {
            _ if line.trim().is_empty() => close(&mut list, &mut records),
            // A second Name begins another record, even without an empty line.
            Some((name, value)) => {
                let key = name.replace(' ', "").to_ascii_lowercase();
                if list.fields.contains_key(&key) {
                    close(&mut list, &mut records);
                }
                list.add(name, value, at + 1);
            }
            None => other.push((at + 1, line.trim().to_owned())),
        }
        at += 1;
    }
    close(&mut list, &mut records);
    (records, other)
}

fn close(list: &mut Record, records: &mut Vec<Record>) {
    if !list.fields.is_empty() {
        records.push(std::mem::take(list));
    }
}

/// `Name : value`, `NAME = value`.
fn pair(line: &str) -> Option<(&str, &str)> {
    let at = line.find([':', '='])?;
    let (name, value) = (line[..at].trim(), &line[at + 1..]);
    let plain = |c: char| c.is_alphanumeric() || " _-()".contains(c);
    let sound = !name.is_empty() && name.len() <= 60 && name.chars().all(plain);
    (sound && !name.starts_with("PS ")).then_some((name, value))
}

/// The dashes under a table's head.
fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.contains("--") && line.chars().all(|c| c == '-' || c == ' ')
}

/// Reads the table whose head is line `at`; the first line behind it.
fn table(lines: &[&str], at: usize, rule: &str, records: &mut Vec<Record>) -> usize {
    let columns = words(rule);
    let names = cells(lines[at], &columns);
    let mut next = at + 2;
    while let Some(line) = lines.get(next).filter(|line| !line.trim().is_empty() && pair_free(line)) {
        let mut record = Record::default();
        for (name, value) in names.iter().zip(cells(line, &columns)).filter(|(name, _)| !name.is_empty()) {
            record.add(name, &value, next + 1);
        }
        records.push(record);
        next += 1;
    }
    next
}

/// A row of a table, which `nlb params` may have right before more of `NAME = value`.
fn pair_free(line: &str) -> bool {
    !line.contains(" = ")
}

/// The words of a line with their places, in characters.
fn words(line: &str) -> Vec<(usize, usize, String)> {
    let mut words: Vec<(usize, usize, String)> = Vec::new();
    for (at, letter) in line.chars().enumerate().filter(|(_, letter)| !letter.is_whitespace()) {
        match words.last_mut().filter(|(_, end, _)| *end == at) {
            Some((_, end, word)) => {
                *end = at + 1;
                word.push(letter);
            }
            None => words.push((at, at + 1, letter.to_string())),
        }
    }
    words
}

/// The line's words in the columns that they lie under; some columns may be empty, some cells have several words, and numbers stand to the
/// right.
fn cells(line: &str, columns: &[(usize, usize, String)]) -> Vec<String> {
    let mut cells = vec![String::new(); columns.len()];
    for (start, end, word) in words(line) {
        let overlap = |(from, to, _): &(usize, usize, String)| end.min(*to).saturating_sub(start.max(*from));
        let before = columns.iter().rposition(|(from, ..)| *from <= start).unwrap_or(0);
        let under = columns.iter().enumerate().map(|(index, column)| (overlap(column), index));
        let best = under
            .filter(|(overlap, _)| *overlap > 0)
            .max_by_key(|(overlap, index)| (*overlap, usize::MAX - index));
        let column = best.map_or(before, |(_, index)| index);
        if let Some(cell) = cells.get_mut(column) {
            if !cell.is_empty() {
                cell.push(' ');
            }
            cell.push_str(&word);
        }
    }
    cells
}

/// Lines that are looked at; a cluster prints some hundred.
const MOST_LINES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |record: &Record| {
            let fields =
                record.fields.iter().map(|(name, field)| format!("{name}={}@{}", field.value, field.line));
            fields.collect::<Vec<_>>().join(" ")
        };
        records(text).0.iter().map(show).collect()
    }

    #[test]
    fn lists_and_tables_of_powershell_are_read() {
        let text = "\nName      : mail\nIPAddress : 10.0.0.8\n\nName : b\nName : c\n\n\
                    Name State              Interface       HostID\n---- -----              ---------       ------\n\
                    arr1 Converged(default) vEthernet (DMZ) 1\narr2 Converged          DMZ             2\n\n";
        assert_eq!(
            shown(text),
            [
                "ipaddress=10.0.0.8@3 name=mail@2",
                "name=b@5",
                "name=c@6",
                "hostid=1@10 interface=vEthernet (DMZ)@10 name=arr1@10 state=Converged(default)@10",
                "hostid=2@11 interface=DMZ@11 name=arr2@11 state=Converged@11"
            ]
        );
    }

    #[test]
    fn what_nlb_params_prints_is_read_with_empty_cells() {
        let text = "WLBS Cluster Control Utility V2.6\nRetrieving parameters\nHostPriority              = 1\nClusterName               = mail\n\
                    NumberOfRules (2):\n\n\x20     VIP       Start  End  Prot   Mode   Pri Load Affinity\n\
                    --------------- ----- ----- ---- -------- --- ---- --------\nAll                80    80 TCP  Multiple      Eql None\n\
                    All               443   443 TCP  Single     1\n";
        let (records, other) = records(text);
        assert_eq!(records.len(), 3);
        assert_eq!(records[1].fields["load"].value, "Eql");
        assert_eq!(records[1].fields["pri"].value, "");
        assert_eq!(
            (records[2].fields["pri"].value.as_str(), records[2].fields["start"].value.as_str()),
            ("1", "443")
        );
        assert_eq!(other[0], (1, "WLBS Cluster Control Utility V2.6".to_owned()));
    }
}
