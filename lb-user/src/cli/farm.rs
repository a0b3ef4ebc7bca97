//! `rollcall farm`: the servers of a node's farms, as this node's proxy knows them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use super::Place;
use super::ask::unexpected;
use super::output::{self, Column, Table, brief, grouped};
use crate::control::api::{Answer, Request, ServerStatus};
use crate::control::client;
use crate::proxy::balance::settings::State;
use crate::wall::WallTime;

/// What was typed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    place: Place,
}

/// `rollcall farm set`.
#[derive(Debug, clap::Subcommand)]
enum Change {
    /// Have a server be in another state on this node, over restarts and changes of the configuration
    Set {
        /// Its farm, or its pool of a TCP service
        farm: String,
        /// Its name there
        server: String,
        /// The state; that of the configuration takes the change back
        state: Wanted,
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// A server's state.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Wanted {
    /// It takes requests from everybody
    Active,
    /// It goes on with the clients that it has, by connection or affinity cookie, and takes no new ones
    Drain,
    /// It takes no more requests; those in flight end in their own time
    Disabled,
}

/// What is looked at.
#[derive(Debug, clap::Args)]
struct Look {
    /// Only this farm, or this pool of a TCP service
    name: Option<String>,
    /// One JSON object a server, each in a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Args { change, look, place } = args;
    match change {
        Some(Change::Set { farm, server, state, json, place }) => {
            set(&place.run_dir, farm, server, state.into(), json)
        }
        None => list(&place.run_dir, look),
    }
}

fn set(run_dir: &Path, farm: String, server: String, state: State, json: bool) -> anyhow::Result<()> {
    let answer = client::ask(run_dir, &Request::SetServer { farm, server, state })?;
    let Answer::ServerSet { was, server } = answer else {
        return Err(unexpected(answer));
    };
    if json {
        output::line(&serde_json::to_string(&server).context("the server cannot be printed")?);
    } else {
        let ServerStatus { farm, name, state, .. } = *server;
        output::line(&format!("server {name} of farm {farm} is {state} on this node; it was {was}"));
    }
    Ok(())
}

fn list(run_dir: &Path, look: Look) -> anyhow::Result<()> {
    let Look { name, json } = look;
    let servers = servers(run_dir)?;
    let farms = by_farm(&servers);
    if let Some(name) = &name {
        let known: Vec<&str> = farms.keys().copied().collect();
        anyhow::ensure!(
            farms.contains_key(name.as_str()),
            "no farm is named {name}; the farms are {}",
            known.join(", ")
        );
    }
    let shown = farms.iter().filter(|(farm, _)| name.as_deref().is_none_or(|name| name == **farm));
    for (number, (farm, servers)) in shown.enumerate() {
        if json {
            for server in servers {
                output::line(&serde_json::to_string(server).context("the farm cannot be printed")?);
            }
            continue;
        }
        if number > 0 {
            output::line("");
        }
        show(farm, servers, WallTime::now());
    }
    Ok(())
}

/// The servers that this node's proxy has.
pub(super) fn servers(run_dir: &Path) -> anyhow::Result<Vec<ServerStatus>> {
    let answer = client::ask(run_dir, &Request::Status)?;
    let Answer::Status(status) = answer else {
        return Err(unexpected(answer));
    };
    let proxy =
        status.proxy.context("this node publishes nothing; hint: it has no [exchange] and no [[site]]")?;
    Ok(proxy.servers)
}

impl From<Wanted> for State {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Active => Self::Active,
            Wanted::Drain => Self::Drain,
            Wanted::Disabled => Self::Disabled,
        }
    }
}

fn by_farm(servers: &[ServerStatus]) -> BTreeMap<&str, Vec<&ServerStatus>> {
    let mut farms = BTreeMap::new();
    for server in servers {
        farms.entry(server.farm.as_str()).or_insert_with(Vec::new).push(server);
    }
    farms
}

fn show(farm: &str, servers: &[&ServerStatus], now: WallTime) {
    output::line(&format!("farm {farm}"));
    load(servers).print();
    output::line("");
    findings(servers, now).print();
    let of_first = servers.first().map_or(&[][..], |server| &server.tests);
    let asked: Vec<String> = of_first.iter().map(|test| format!("{}: {}", test.name, test.what)).collect();
    output::line("");
    asked.iter().for_each(|asked| output::line(&format!("  test {asked}")));
}

/// What each does.
fn load(servers: &[&ServerStatus]) -> Table {
    let mut table = Table::new(&[
        Column::text("server", 12),
        Column::text("state", 9),
        Column::text("works", 8),
        Column::number("weight"),
        Column::number("now"),
        Column::number("requests"),
        Column::number("failed"),
        Column::number("time"),
    ]);
    for server in servers {
        table.row(vec![
            server.name.clone(),
            if server.backup { format!("{}+", server.state) } else { server.state.clone() },
            works(server),
            server.weight.to_string(),
            server.requests.to_string(),
            brief(server.total),
            brief(server.failed),
            time(server.response_us),
        ]);
    }
    table
}

/// `yes`, `no`, or for how many of its tests.
pub(super) fn works(server: &ServerStatus) -> String {
    let healthy = server.tests.iter().filter(|test| test.health == "healthy").count();
    match (healthy, server.tests.len()) {
        (0, _) => "no".to_owned(),
        (some, all) if some == all => "yes".to_owned(),
        (some, all) => format!("{some} of {all}"),
    }
}

fn time(micros: u64) -> String {
    match micros {
        0 => "-".to_owned(),
        micros @ 1..100_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        micros => format!("{} ms", grouped(micros / 1000)),
    }
}

/// What the tests found.
fn findings(servers: &[&ServerStatus], now: WallTime) -> Table {
    let mut table = Table::new(&[
        Column::text("server", 16),
        Column::text("test", 20),
        Column::text("health", 9),
        Column::text("last answer", 13),
        Column::number("ago"),
    ]);
    for server in servers {
        for test in &server.tests {
            let finding = test.finding.clone().unwrap_or_else(|| "none".to_owned());
            table.row(vec![
                server.name.clone(),
                test.name.clone(),
                test.health.clone(),
                finding,
                since(test.tested_ms, now),
            ]);
        }
    }
    table
}

/// How long ago a test was made, to the second.
pub(super) fn since(tested_ms: Option<u64>, now: WallTime) -> String {
    let Some(tested) = tested_ms else {
        return "-".to_owned();
    };
    match now.unix_ms().saturating_sub(tested) / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::TestStatus;

    fn server() -> ServerStatus {
        let test = |name: &str, health: &str| TestStatus {
            name: name.to_owned(),
            health: health.to_owned(),
            finding: Some("no connection".to_owned()),
            tested_ms: Some(5_000),
            ..TestStatus::default()
        };
        ServerStatus {
            farm: "exchange".to_owned(),
            name: "a-server-of-some-length".to_owned(),
            state: "disabled".to_owned(),
            weight: 1000,
            backup: true,
            requests: 12_345,
            total: 9_999_999_999,
            failed: 999_999,
            response_us: 59_999_000,
            tests: vec![test("default", "unhealthy"), test("a-name-of-twenty-one-", "healthy")],
            ..ServerStatus::default()
        }
    }

    #[test]
    fn a_farms_tables_fit_80_columns() {
        let server = server();
        for table in [load(&[&server]), findings(&[&server], WallTime::from_unix_ms(4_000_000))] {
            for line in table.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn a_server_works_by_how_many_of_its_tests_say_so() {
        let mut server = server();
        assert_eq!(works(&server), "1 of 2");
        server.tests.remove(0);
        assert_eq!(works(&server), "yes");
        server.tests[0].health = "untested".to_owned();
        assert_eq!(works(&server), "no");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(
            [0, 950, 12_340, 99_999, 123_456].map(time),
            ["-", "0.9 ms", "12.3 ms", "99.9 ms", "123 ms"]
        );
        let ago = |seconds: u64| since(Some(1000), WallTime::from_unix_ms(seconds * 1000));
        assert_eq!([ago(0), ago(3), ago(121)], ["0 s", "2 s", "2 min"]);
    }
}
