//! What becomes of a request, printed.

use std::path::Path;

use anyhow::Context as _;

use super::super::ask::unexpected;
use super::super::events::{WIDTH, wrapped};
use super::super::farm::since;
use super::super::output::{self, Column, Table};
use crate::control::api::{Answer, Asked, FarmExplanation, Recalled, Request, RequestExplanation};
use crate::control::client;
use crate::wall::WallTime;

pub(super) fn run(run_dir: &Path, asked: Asked, json: bool) -> anyhow::Result<()> {
    let explanation = explained(run_dir, asked)?;
    if json {
        output::line(&serde_json::to_string(&explanation).context("the explanation cannot be printed")?);
    } else {
        show(&explanation, WallTime::now());
    }
    Ok(())
}

fn explained(run_dir: &Path, asked: Asked) -> anyhow::Result<RequestExplanation> {
    let answer = client::ask(run_dir, &Request::ExplainRequest(asked))?;
    let Answer::RequestExplanation(explanation) = answer else {
        return Err(unexpected(answer));
    };
    Ok(*explanation)
}

/// A request of before, and what would become of it now.
pub(super) fn recall(run_dir: &Path, id: String, json: bool) -> anyhow::Result<()> {
    let answer = client::ask(run_dir, &Request::Recall { id: id.clone() })?;
    let Answer::Recalled { request: recalled } = answer else {
        return Err(unexpected(answer));
    };
    let hint = "hint: the proxy remembers the last thousand, until its worker ends";
    let recalled = recalled.with_context(|| format!("request {id} is not among the last ones; {hint}"))?;
    // Its query and most header fields are not kept.
    let asked = Asked {
        url: format!("https://{}{}", recalled.host, recalled.path),
        method: recalled.method.clone(),
        headers: Vec::new(),
        from: recalled.client.parse().context("the client's address is none")?,
    };
    let now = explained(run_dir, asked);
    if json {
        let both = serde_json::json!({ "request": recalled, "now": now.ok() });
        output::line(&both.to_string());
        return Ok(());
    }
    show_recalled(&recalled);
    output::heading("now, without its query and header fields");
    match now {
        Ok(explanation) => show(&explanation, WallTime::now()),
        Err(error) => folded("", &format!("{error:#}")),
    }
    Ok(())
}

fn show_recalled(recalled: &Recalled) {
    let Recalled { id, client, method, host, path, site, route, farm, server, status, cause, why, .. } =
        recalled;
    let ended = WallTime::from_unix_ms(recalled.ended_ms).local();
    folded("", &format!("{id}: {status} to {method} https://{host}{path} of {client}, ended {ended}"));
    output::line("");
    for (name, text) in
        [("site", site), ("route", route), ("farm", farm), ("server", server), ("cause", cause), ("why", why)]
    {
        if !text.is_empty() {
            folded(&format!("  {name:<7} "), text);
        }
    }
    let millis = |micros: u64| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
    let part = |name: &str, micros: Option<u64>| micros.map(|micros| format!("{name} {}", millis(micros)));
    let times = [
        part("connect", recalled.connect_us),
        part("TLS", recalled.tls_us),
        part("first byte", recalled.first_byte_us),
        part("in all", Some(recalled.total_us)),
    ];
    let times: Vec<String> = times.into_iter().flatten().collect();
    folded("  took    ", &times.join(", "));
    let end = if recalled.whole { "whole" } else { "cut off" };
    let pinned = if recalled.pinned { ", on a logged-on connection" } else { "" };
    folded("  bytes   ", &format!("{} received, {} sent, {end}{pinned}", recalled.received, recalled.sent));
}

fn show(explanation: &RequestExplanation, now: WallTime) {
    let RequestExplanation { summary, site, site_why, steps, farm, remarks } = explanation;
    folded("", summary);
    output::line("");
    folded("  site  ", &format!("{}: {site_why}", site.as_deref().unwrap_or("none")));
    if !steps.is_empty() {
        output::heading("looked at, in order");
    }
    for step in steps {
        folded("  ", &format!("{} {}", step.what, step.result));
    }
    if let Some(farm) = farm {
        show_farm(farm, now);
    }
    for remark in remarks {
        output::line("");
        folded("", remark);
    }
}

fn show_farm(farm: &FarmExplanation, now: WallTime) {
    output::heading(&format!("farm {}", farm.name));
    let total = farm.total_seconds.map_or("no end".to_owned(), |seconds| format!("{seconds} s in all"));
    folded(
        "  ",
        &format!(
            "may be silent for {} s, {total}, body of up to {} bytes, by the test \"{}\"",
            farm.idle_seconds, farm.body_bytes, farm.test
        ),
    );
    let mut table = Table::new(&[
        Column::text("server", 12),
        Column::text("state", 8),
        Column::text("health", 9),
        Column::text("last answer", 13),
        Column::number("ago"),
        Column::text("new clients", 11),
    ]);
    for server in &farm.servers {
        let takes = match (server.takes_new, server.keeps) {
            (true, _) => "yes",
            (false, true) => "no, keeps",
            (false, false) => "no",
        };
        table.row(vec![
            server.name.clone(),
            server.state.clone(),
            server.health.clone(),
            server.finding.clone().unwrap_or_else(|| "none".to_owned()),
            since(server.tested_ms, now),
            takes.to_owned(),
        ]);
    }
    table.print();
}

/// Prints a sentence that may be longer than a line, the first with `before`.
fn folded(before: &str, sentence: &str) {
    let indent = " ".repeat(before.len());
    for (number, part) in wrapped(sentence, WIDTH - before.len()).into_iter().enumerate() {
        output::line(&format!("{}{part}", if number == 0 { before } else { &indent }));
    }
}
