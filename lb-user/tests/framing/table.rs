//! docs/framing.md: every case with its verdicts. Ours are checked against it; those of the others are of their versions.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::program::{version, workspace};

/// A case and its verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) family: &'static str,
    pub(crate) name: String,
    pub(crate) ours: String,
    pub(crate) nginx: String,
    pub(crate) haproxy: String,
}

fn file() -> PathBuf {
    workspace().join("docs/framing.md")
}

/// Writes the table.
pub(crate) fn write(rows: &[Row]) {
    fs::create_dir_all(file().parent().unwrap()).unwrap();
    fs::write(file(), text(rows)).unwrap();
}

/// The rows whose case and verdict of ours the table does not have at the same place.
pub(crate) fn outdated(rows: &[Row]) -> Vec<String> {
    let table = fs::read_to_string(file()).unwrap_or_default();
    let mut lines = table.lines().filter(|line| line.starts_with("| `"));
    let outdated = |row: &&Row| !lines.next().is_some_and(|line| line.starts_with(&start(row)));
    rows.iter().filter(outdated).map(start).collect()
}

fn text(rows: &[Row]) -> String {
    let (nginx, haproxy) = (version("nginx", "-v"), version("haproxy", "-v"));
    let mut text = format!(
        "{INTRODUCTION}\n{} cases; nginx {nginx}, haproxy {haproxy}, both configured to do no more than they have to.\n",
        rows.len()
    );
    let mut family = "";
    for row in rows {
        if row.family != family {
            family = row.family;
            write!(text, "\n## {family}\n\n| Sent | Rollcall | nginx | haproxy |\n|---|---|---|---|\n")
                .unwrap();
        }
        writeln!(text, "{} {} | {} |", start(row), plain(&row.nginx), plain(&row.haproxy)).unwrap();
    }
    text
}

/// What a row begins with: its case, and our verdict.
fn start(row: &Row) -> String {
    let name = row.name.replace('`', "\\u{60}").replace('|', "\\|");
    format!("| `{name}` | {} |", plain(&row.ours))
}

fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

const INTRODUCTION: &str = "\
# Framing: what is refused, and what crosses

Each line is a message with no reading, several, or just one, and what became of it: what the client was answered, and, after the colon,
what the server behind read, with bytes of content. *canary* is a plain request that is sent right behind each case: it has to be
answered as a request of its own, or not at all. For responses, *next* is the answer to the client's next request.

Bytes that cannot be shown are written as in Rust. Behind a status of Rollcall's own stands what its access log says: `violation`, or
`cause`. Brackets say what is odd about what crossed. *closed* and *cut* are connections that end without an answer, or within one.

Under *HTTP/2* the message came as that, and the server behind was spoken to in HTTP/1.1. *reset* and *GOAWAY* are the stream's and
the connection's end with their code (RFC 9113, 7: 1 PROTOCOL_ERROR, 2 INTERNAL_ERROR); the canary is the next stream, *nothing* no answer within three seconds.
Parts of requests whose stream was reset are left out.

`cargo test -p lb-user --test framing` sends all of them and checks the column of Rollcall, that all which crossed is strict HTTP/1.1, and
that nginx, apache, node and h11 read the same requests in it. With `ROLLCALL_WRITE_TABLE=1` it writes this file. The columns of the
others depend on their versions and are not checked.
";
