//! What a change of the configuration costs that three nodes share: the time of `rollcall config apply` until all of them work with it, and
//! what it adds to how long requests take meanwhile; with the lab's own site alone, and with 500 more that have a certificate and two rules
//! each.
//!
//! A request over a connection that is open counts as *during* a change if any part of it was, and as *before* where it ended in the same time
//! before that change. Of both the 99th percentile is told over all changes.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_user::clock::Time;
use rcgen::generate_simple_self_signed;

use super::{Row, median, publish};
use crate::backend::write_private;
use crate::lab::Plan;
use crate::node::Cluster;
use crate::report::{Progress, bad, good, line};
use crate::shared::{apply, shown};
use crate::traffic::{Browsers, Habit, Request};

/// Sites with a certificate each.
const SITES: usize = 500;
/// Routing rules of each.
const RULES: usize = 2;
/// Clients, which ask as often as it takes for their requests to fill the time of a change.
const CLIENTS: usize = 4;
const HABIT: Habit = Habit { pause: Duration::from_millis(4), per_connection: usize::MAX, most: usize::MAX };
/// Between two changes, so that nothing of one is taken for the time before the next.
const REST: Duration = Duration::from_secs(2);

/// What was promised: subject, metric, and the most that it may be.
const TARGETS: [(&str, &str, f64); 3] = [(SMALL, APPLY, 1000.0), (LARGE, APPLY, 1000.0), (LARGE, ADDED, 5.0)];
const SMALL: &str = "the lab's site";
const LARGE: &str = "1,000 rules, 500 certificates";
const APPLY: &str = "apply to all of 3 nodes";
const ADDED: &str = "added to p99 of requests";

/// Measures, prints and writes `target/bench/reload.json`.
pub fn run(quick: bool, json: bool) -> Result<()> {
    let changes = if quick { 3 } else { 15 };
    let progress = Progress::of(2 * changes);
    let mut cluster = Cluster::raise(&Plan::nodes(3))?;
    cluster.share()?;
    let mut rows = measure(&cluster, SMALL, changes, &progress)?;
    let (_, text) = shown(&cluster.nodes[0])?;
    let text = text + &sites(&cluster.lab.folder())?;
    apply(&cluster.nodes[0], &text).context("the large configuration is not taken")?;
    cluster.settle()?;
    rows.extend(measure(&cluster, LARGE, changes, &progress)?);
    drop(progress);
    let left = cluster.tear_down();
    ensure!(left.is_empty(), "the lab left behind: {}", left.join(", "));
    publish("reload", &rows, json)?;
    if !json {
        say_what_was_kept(&rows);
    }
    Ok(())
}

/// When a change was begun, and when all nodes worked with it.
type Change = (Time, Time);

fn measure(cluster: &Cluster, subject: &str, changes: usize, progress: &Progress) -> Result<Vec<Row>> {
    let browsers = Browsers::start(&cluster.https()?, CLIENTS, HABIT);
    let mut times = Vec::new();
    for number in 0..changes {
        thread::sleep(REST);
        let node = &cluster.nodes[number % cluster.nodes.len()];
        let wanted = with_head_fields(&shown(node)?.1, 100 + number);
        let begun = Time::now();
        let applied = apply(node, &wanted)?;
        times.push((begun, Time::now()));
        let on = applied["on"].as_array().map_or(0, Vec::len);
        ensure!(on + 1 == cluster.nodes.len(), "not all nodes work with it: {applied}");
        progress.advance();
    }
    let requests = browsers.finish()?;
    let failed = requests.iter().filter(|request| request.error.is_some()).count();
    ensure!(failed == 0, "{failed} of {} requests failed", requests.len());
    let took: Vec<f64> = times.iter().map(|(begun, ended)| millis(*begun, *ended)).collect();
    let before = p99(&requests, |request| times.iter().any(|change| is_before(request, *change)))?;
    let during = p99(&requests, |request| times.iter().any(|change| is_during(request, *change)))?;
    let longest = took.iter().copied().fold(0.0, f64::max);
    let row = |metric: &str, value| Row {
        bench: "reload",
        case: "apply".to_owned(),
        subject: subject.to_owned(),
        metric: metric.to_owned(),
        unit: "ms",
        value,
        runs: changes,
    };
    Ok(vec![
        row(APPLY, median(&took)),
        row(&format!("{APPLY}, maximum"), longest),
        row("p99 of requests before", before),
        row("p99 of requests during", during),
        row(ADDED, during - before),
    ])
}

/// Whether it ended in the time before the change that the change then took.
fn is_before(request: &Request, (begun, ended): Change) -> bool {
    request.ended <= begun && request.begun >= begun - ended.since(begun)
}

fn is_during(request: &Request, (begun, ended): Change) -> bool {
    request.ended > begun && request.begun < ended
}

/// Of requests over connections that were open, in milliseconds.
fn p99(requests: &[Request], counts: impl Fn(&Request) -> bool) -> Result<f64> {
    let counted =
        requests.iter().filter(|request| request.begun != request.connection_begun && counts(request));
    let mut took: Vec<f64> = counted.map(|request| millis(request.begun, request.ended)).collect();
    took.sort_by(f64::total_cmp);
    let at = (took.len() * 99 / 100).min(took.len().saturating_sub(1));
    took.get(at).copied().context("no request was made in that time")
}

fn millis(from: Time, to: Time) -> f64 {
    to.since(from).as_secs_f64() * 1e3
}

/// A change that has every node's proxy take up all of the configuration anew.
fn with_head_fields(text: &str, fields: usize) -> String {
    let line = format!("head_fields = {fields}");
    match text.lines().find(|line| line.starts_with("head_fields = ")) {
        Some(before) => text.replace(before, &line),
        None => format!("[limits]\n{line}\n\n{text}"),
    }
}

/// The text of the further sites, whose certificates are below `folder`.
fn sites(folder: &Path) -> Result<String> {
    let folder = folder.join("sites");
    fs::create_dir(&folder).context("cannot make a folder for certificates")?;
    let mut text = String::from(
        "\n[[farm]]\nname = \"web\"\nservers = [\"10.0.0.36\", \"10.0.0.37\"]\nverify = \"none\"\n",
    );
    for number in 0..SITES {
        let name = format!("site{number}.example.test");
        let signed = generate_simple_self_signed([name.clone()])?;
        let path = folder.join(format!("{number}.pem"));
        write_private(&path, &(signed.cert.pem() + &signed.signing_key.serialize_pem()))?;
        write!(text, "\n[[site]]\nnames = [{name:?}]\ncertificate = {path:?}\nfarm = \"web\"\n")?;
        for rule in 0..RULES {
            write!(
                text,
                "\n[[site.rewrite]]\nname = \"rule {rule}\"\nmatch = \"^old{rule}(/.*)?$\"\nredirect = \"new{rule}{{R:1}}\"\nstatus = 301\n"
            )?;
        }
    }
    Ok(text)
}

fn say_what_was_kept(rows: &[Row]) {
    for (subject, metric, most) in TARGETS {
        let Some(row) = rows.iter().find(|row| row.subject == subject && row.metric == metric) else {
            line(format!("{subject}: {metric}: {}", bad("NOT MEASURED")));
            continue;
        };
        let verdict = if row.value <= most { good("kept") } else { bad("MISSED") };
        line(format!("{subject}: {metric} {:.1} ms, at most {most} promised: {verdict}", row.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(begun: u64, ended: u64) -> Request {
        let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
        Request {
            begun: at(begun),
            connection_begun: at(0),
            ended: at(ended),
            client: None,
            server: String::new(),
            error: None,
        }
    }

    #[test]
    fn a_request_counts_by_when_it_was_and_an_equal_time_before_is_what_it_is_set_beside() {
        let change = (Time::from_nanos(100_000_000), Time::from_nanos(150_000_000));
        let cases = [
            ((40, 60), [false, false]),
            ((60, 99), [true, false]),
            ((99, 101), [false, true]),
            ((149, 200), [false, true]),
            ((151, 200), [false, false]),
        ];
        for ((begun, ended), wanted) in cases {
            let request = request(begun, ended);
            assert_eq!(
                [is_before(&request, change), is_during(&request, change)],
                wanted,
                "{begun} to {ended}"
            );
        }
    }

    #[test]
    fn a_request_that_opens_its_connection_is_not_counted() {
        assert!(p99(&[request(0, 50)], |_| true).is_err());
        assert_eq!(p99(&[request(0, 50), request(50, 53)], |_| true).unwrap(), 3.0);
    }
}
