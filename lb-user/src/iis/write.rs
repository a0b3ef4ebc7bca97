//! A draft as the text of a cluster file, with a marked line for each blank. Pure.

use std::fmt::{self, Write as _};

use super::draft::{Draft, Exchange, Face, Farm, Fill, Node, PortRule, Route, Server, Site};
use crate::proxy::rewrite::pattern::Syntax;
use crate::proxy::rewrite::spec::{ActionSpec, ConditionSpec, Grouping, Maps, RuleSpec, SetSpec};

/// The cluster file.
pub fn text(draft: &Draft) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(out, "{}", File(draft));
    out
}

/// The lines of `text` that an operator has to fill in, from 1, and what is to be written there.
pub fn blanks(text: &str) -> Vec<(usize, String)> {
    let blank =
        |(at, line): (usize, &str)| line.split_once(MARK).map(|(_, what)| (at + 1, what.trim().to_owned()));
    text.lines().enumerate().filter_map(blank).collect()
}

/// What stands before the words of a blank.
const MARK: &str = "# FILL IN:";

/// What stands in place of its value; no value that a check lets pass.
const NOTHING: &str = "\"FILL-IN\"";

/// `"text"`, as TOML has it.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

struct File<'a>(&'a Draft);

impl fmt::Display for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Draft { ips, mode, nodes, rules, exchange, farms, sites } = self.0;
        writeln!(
            f,
            "# The cluster file, made of a configuration of IIS by `rollcall import-iis`. Put a node.toml beside it on each node:"
        )?;
        writeln!(f, "# its name and interface. See what became of each setting in the import's report.\n")?;
        writeln!(f, "[cluster]")?;
        match &ips[..] {
            [ip] => filled(f, "ip", ip)?,
            many => {
                writeln!(f, "ips = [")?;
                many.iter().try_for_each(|ip| match ip {
                    Fill::Known(ip) => writeln!(f, "  {},", quoted(ip)),
                    Fill::Blank(what) => writeln!(f, "  {NOTHING}, {MARK} {what}"),
                })?;
                writeln!(f, "]")?;
            }
        }
        let what = "multicast, igmp or unicast, as the switches let through; NLB Manager shows what it was";
        filled(f, "mode", &Fill::of(*mode, what))?;
        nodes.iter().try_for_each(|one| node(f, one))?;
        rules.iter().try_for_each(|one| port_rule(f, one))?;
        exchange.iter().try_for_each(|one| self::exchange(f, one))?;
        farms.iter().try_for_each(|one| farm(f, one))?;
        sites.iter().try_for_each(|one| site(f, one))
    }
}

fn filled(f: &mut fmt::Formatter<'_>, key: &str, value: &Fill) -> fmt::Result {
    match value {
        Fill::Known(value) => writeln!(f, "{key} = {}", quoted(value)),
        Fill::Blank(what) => writeln!(f, "{key} = {NOTHING} {MARK} {what}"),
    }
}

fn lines(f: &mut fmt::Formatter<'_>, lines: &[super::draft::Line]) -> fmt::Result {
    lines.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
}

fn node(f: &mut fmt::Formatter<'_>, Node { name, address, priority }: &Node) -> fmt::Result {
    writeln!(f, "\n[[node]]")?;
    filled(f, "name", name)?;
    filled(f, "address", address)?;
    writeln!(f, "priority = {priority}")
}

fn port_rule(f: &mut fmt::Formatter<'_>, rule: &PortRule) -> fmt::Result {
    let PortRule { ip, protocol, ports: (first, last), filtering, affinity, sticky, weights, handling } =
        rule;
    writeln!(f, "\n[[rule]]")?;
    if first == last {
        writeln!(f, "ports = {first}")?;
    } else {
        writeln!(f, "ports = \"{first}-{last}\"")?;
    }
    if let Some(ip) = ip {
        writeln!(f, "ip = \"{ip}\"")?;
    }
    let usual =
        [("protocol", protocol, "tcp"), ("filtering", filtering, "multiple"), ("affinity", affinity, "none")];
    usual
        .into_iter()
        .filter(|(_, value, default)| *value != default)
        .try_for_each(|(key, value, _)| writeln!(f, "{key} = \"{value}\""))?;
    if *sticky > 0 {
        writeln!(f, "stickiness_timeout = \"{sticky}min\"")?;
    }
    for (key, by_node) in [("weights", weights), ("handling_priorities", handling)] {
        if !by_node.is_empty() {
            let entries: Vec<String> =
                by_node.iter().map(|(node, n)| format!("{} = {n}", quoted(node))).collect();
            writeln!(f, "{key} = {{ {} }}", entries.join(", "))?;
        }
    }
    Ok(())
}

fn face(f: &mut fmt::Formatter<'_>, face: &Face) -> fmt::Result {
    let Face { names, certificate, key, password_file, port, redirect_http: _, hsts, set, remove } = face;
    if names.is_empty() {
        writeln!(
            f,
            "names = [{NOTHING}] {MARK} the host names that clients ask for, such as mail.example.test"
        )?;
    } else {
        writeln!(f, "names = {}", list(names))?;
    }
    filled(f, "certificate", certificate)?;
    for (name, value) in [("key", key), ("password_file", password_file)] {
        if let Some(value) = value {
            writeln!(f, "{name} = {}", quoted(value))?;
        }
    }
    if *port != 443 {
        writeln!(f, "port = {port}")?;
    }
    if let Some(seconds) = hsts {
        writeln!(f, "hsts = \"{seconds}s\"")?;
    }
    let fields: Vec<String> =
        set.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
    let set = (!fields.is_empty()).then(|| format!("set = {{ {} }}", fields.join(", ")));
    let remove = (!remove.is_empty()).then(|| format!("remove = {}", list(remove)));
    let edits: Vec<String> = set.into_iter().chain(remove).collect();
    if edits.is_empty() { Ok(()) } else { writeln!(f, "response_headers = {{ {} }}", edits.join(", ")) }
}

fn exchange(f: &mut fmt::Formatter<'_>, exchange: &Exchange) -> fmt::Result {
    let Exchange { face: own, servers: behind, balance, health, lines: own_lines, rules, maps } = exchange;
    writeln!(f, "\n[exchange]")?;
    face(f, own)?;
    servers(f, behind, 443)?;
    if !own.redirect_http {
        writeln!(f, "redirect_http = false")?;
    }
    lines(f, own_lines)?;
    tables(f, "exchange", balance, health)?;
    self::maps(f, "exchange", maps)?;
    rules.iter().try_for_each(|one| rule(f, "exchange", one))
}

fn tables(
    f: &mut fmt::Formatter<'_>,
    of: &str,
    balance: &[super::draft::Line],
    health: &[super::draft::Line],
) -> fmt::Result {
    for (name, table) in [("balance", balance), ("health", health)] {
        if !table.is_empty() {
            writeln!(f, "\n[{of}.{name}]")?;
            lines(f, table)?;
        }
    }
    Ok(())
}

fn servers(f: &mut fmt::Formatter<'_>, servers: &[Server], usual: u16) -> fmt::Result {
    writeln!(f, "servers = [")?;
    for Server { name, address, port, weight, active } in servers {
        let port = if *port == usual { String::new() } else { format!(":{port}") };
        let mut rest = String::new();
        if *weight != 100 {
            rest.push_str(&format!(", weight = {weight}"));
        }
        if !active {
            rest.push_str(", state = \"disabled\"");
        }
        match address {
            Fill::Known(address) => {
                let address = quoted(&format!("{address}{port}"));
                writeln!(f, "  {{ name = {}, address = {address}{rest} }},", quoted(name))?;
            }
            Fill::Blank(what) => {
                let address = quoted(&format!("FILL-IN{port}"));
                writeln!(f, "  {{ name = {}, address = {address}{rest} }}, {MARK} {what}", quoted(name))?;
            }
        }
    }
    writeln!(f, "]")
}

fn farm(f: &mut fmt::Formatter<'_>, farm: &Farm) -> fmt::Result {
    let Farm { name, comment, servers: behind, tls, lines: own, balance, health } = farm;
    writeln!(f)?;
    comment.lines().try_for_each(|line| writeln!(f, "# {line}"))?;
    writeln!(f, "[[farm]]\nname = {}", quoted(name))?;
    servers(f, behind, if *tls { 443 } else { 80 })?;
    if !tls {
        writeln!(f, "tls = false")?;
    }
    lines(f, own)?;
    tables(f, "farm", balance, health)
}

fn site(f: &mut fmt::Formatter<'_>, site: &Site) -> fmt::Result {
    let Site { comment, face: own, farm, rewrite_location, maps, rules, routes } = site;
    writeln!(f)?;
    comment.lines().try_for_each(|line| writeln!(f, "# {line}"))?;
    writeln!(f, "[[site]]")?;
    face(f, own)?;
    writeln!(
        f,
        "protocols = [\"http/1.1\"] # NTLM and Kerberos need it; \"h2\" may be added where neither is used"
    )?;
    if let Some(farm) = farm {
        writeln!(f, "farm = {}", quoted(farm))?;
    }
    if own.redirect_http {
        writeln!(f, "redirect_http = true")?;
    }
    if *rewrite_location {
        writeln!(f, "rewrite_location = true")?;
    }
    self::maps(f, "site", maps)?;
    rules.iter().try_for_each(|one| rule(f, "site", one))?;
    routes.iter().try_for_each(|one| route(f, one))
}

fn maps(f: &mut fmt::Formatter<'_>, of: &str, maps: &Maps) -> fmt::Result {
    for (name, map) in maps {
        writeln!(f, "\n[{of}.maps.{}]", quoted(name))?;
        if !map.default.is_empty() {
            writeln!(f, "default = {}", quoted(&map.default))?;
        }
        if !map.ignore_case {
            writeln!(f, "ignore_case = false")?;
        }
        writeln!(f, "[{of}.maps.{}.entries]", quoted(name))?;
        map.entries.iter().try_for_each(|(key, value)| writeln!(f, "{} = {}", quoted(key), quoted(value)))?;
    }
    Ok(())
}

fn rule(f: &mut fmt::Formatter<'_>, of: &str, rule: &RuleSpec) -> fmt::Result {
    let RuleSpec { name, enabled, syntax, stop_processing, url, conditions, set, action } = rule;
    writeln!(f, "\n[[{of}.rewrite]]\nname = {}\nmatch = {}", quoted(name), quoted(&url.pattern))?;
    match syntax {
        Syntax::Ecmascript => {}
        Syntax::Wildcard => writeln!(f, "syntax = \"wildcard\"")?,
        Syntax::ExactMatch => writeln!(f, "syntax = \"exact\"")?,
    }
    for (key, value, usual) in [
        ("enabled", *enabled, true),
        ("ignore_case", url.ignore_case, true),
        ("negate", url.negate, false),
        ("any_condition", conditions.grouping == Grouping::MatchAny, false),
        ("track_all_captures", conditions.track_all_captures, false),
    ] {
        if value != usual {
            writeln!(f, "{key} = {value}")?;
        }
    }
    inline(f, "conditions", conditions.list.iter().map(condition))?;
    inline(f, "set", set.iter().map(field))?;
    self::action(f, action)?;
    if *stop_processing { writeln!(f, "stop = true") } else { Ok(()) }
}

fn inline(f: &mut fmt::Formatter<'_>, key: &str, tables: impl Iterator<Item = String>) -> fmt::Result {
    let tables: Vec<String> = tables.collect();
    if tables.is_empty() { Ok(()) } else { writeln!(f, "{key} = [\n  {},\n]", tables.join(",\n  ")) }
}

fn condition(ConditionSpec { input, pattern }: &ConditionSpec) -> String {
    let mut text = format!("{{ input = {}, match = {}", quoted(input), quoted(&pattern.pattern));
    for (key, value, usual) in [("ignore_case", pattern.ignore_case, true), ("negate", pattern.negate, false)]
    {
        if value != usual {
            text.push_str(&format!(", {key} = {value}"));
        }
    }
    text + " }"
}

fn field(SetSpec { name, value, replace }: &SetSpec) -> String {
    let rest = if *replace { "" } else { ", replace = false" };
    format!("{{ name = {}, value = {}{rest} }}", quoted(name), quoted(value))
}

fn action(f: &mut fmt::Formatter<'_>, action: &ActionSpec) -> fmt::Result {
    match action {
        ActionSpec::None => {}
        ActionSpec::AbortRequest => writeln!(f, "abort = true")?,
        ActionSpec::Rewrite { url, append_query } => {
            writeln!(f, "rewrite = {}", quoted(url))?;
            if !append_query {
                writeln!(f, "append_query = false")?;
            }
        }
        ActionSpec::Redirect { url, append_query, status } => {
            writeln!(f, "redirect = {}\nstatus = {}", quoted(url), status.code())?;
            if !append_query {
                writeln!(f, "append_query = false")?;
            }
        }
        ActionSpec::CustomResponse { status, substatus: _, reason, description } => {
            writeln!(f, "respond = {status}")?;
            for (key, text) in [("reason", reason), ("description", description)] {
                if !text.is_empty() {
                    writeln!(f, "{key} = {}", quoted(text))?;
                }
            }
        }
    }
    Ok(())
}

fn route(f: &mut fmt::Formatter<'_>, Route { path, hosts, farm }: &Route) -> fmt::Result {
    writeln!(f, "\n[[site.route]]\npath = {}\nignore_case = true", quoted(path))?;
    if !hosts.is_empty() {
        writeln!(f, "hosts = {}", list(hosts))?;
    }
    writeln!(f, "farm = {}", quoted(farm))
}
