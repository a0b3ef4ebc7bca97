//! Routes: which requests of a site, and what becomes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Problems;
use super::headers::edits;
use super::message::response;
use super::names::{host_name, is_among, not_a_host_name};
use super::rewrite::maps;
use crate::config::model::{Action, Bounds, HeaderEdits, PathMatch, Route};
use crate::config::problem::Problem;
use crate::config::raw::{BoundsTable, HealthTable, RouteTable, SiteTable, Size, Time};
use crate::config::spanned::Spanned;
use crate::proxy::http1::{Known, is_token};
use crate::proxy::protect::networks::{AccessList, Network, NetworkError};
use crate::proxy::rewrite::spec::Maps;

/// What a route may go to: a farm.
pub(super) struct Target<'a> {
    /// What holds for its requests where their route says nothing.
    pub(super) bounds: Bounds,
    /// Its tests beside its own.
    pub(super) tests: &'a BTreeMap<String, Spanned<HealthTable>>,
}

/// A site's routes, its farm as the last one.
pub(super) fn routes(
    raw: &SiteTable,
    farms: &BTreeMap<&str, Target<'_>>,
    problems: &mut Problems,
) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    let maps = maps(&raw.maps);
    for table in &raw.route {
        routes.extend(route(table, &raw.names, &maps, farms, problems));
    }
    let whole = routes.len() == raw.route.len();
    let Some(farm) = &raw.farm else {
        return whole.then_some(routes);
    };
    let bounds = known(farm, farms, problems)?;
    let all = PathMatch::Under("/".to_owned());
    let action = Action::Farm(farm.get_ref().clone());
    routes.push(Route {
        path: all,
        ignore_case: false,
        hosts: Vec::new(),
        headers: BTreeMap::new(),
        methods: Vec::new(),
        networks: Vec::new(),
        edits: HeaderEdits::default(),
        action,
        test: None,
        bounds,
    });
    whole.then_some(routes)
}

fn route(
    raw: &Spanned<RouteTable>,
    names: &[Spanned<String>],
    maps: &Maps,
    farms: &BTreeMap<&str, Target<'_>>,
    problems: &mut Problems,
) -> Option<Route> {
    let table = raw.get_ref();
    let path = path(raw, problems);
    let action = action(raw, problems);
    let start = match &table.farm {
        Some(farm) => known(farm, farms, problems),
        None => Some(Bounds::default()),
    };
    let own = BoundsTable {
        idle_timeout: table.idle_timeout.clone(),
        total_timeout: table.total_timeout.clone(),
        body_limit: table.body_limit.clone(),
    };
    let bounds = start.and_then(|start| bounds(&own, start, problems));
    let test = test(table, farms, problems);
    let networks = networks(&table.networks, problems);
    let methods = methods(&table.methods, problems);
    let hosts = hosts(&table.hosts, names, problems);
    let headers = headers(&table.headers, problems);
    let edits = edits(&table.request_headers, &table.response_headers, maps, problems);
    Some(Route {
        path: path?,
        ignore_case: table.ignore_case,
        hosts: hosts?,
        headers: headers?,
        edits: edits?,
        methods: methods?,
        networks: networks?,
        action: action?,
        test: test?,
        bounds: bounds?,
    })
}

fn path(raw: &Spanned<RouteTable>, problems: &mut Problems) -> Option<PathMatch> {
    match (&raw.get_ref().path, &raw.get_ref().exact) {
        (Some(path), None) => problems.path("route", path).map(PathMatch::Under),
        (None, Some(path)) => problems.path("route", path).map(PathMatch::Exactly),
        (Some(_), Some(_)) | (None, None) => {
            let problem = Problem::at(raw.span(), "a route needs either `path` or `exact`");
            problems.add(problem.hint("path = \"/owa\" is that path and all below it"));
            None
        }
    }
}

fn action(raw: &Spanned<RouteTable>, problems: &mut Problems) -> Option<Action> {
    let table = raw.get_ref();
    let mut status = |default: u16, range| match &table.status {
        Some(status) => problems.number("status", status, range),
        None => Some(default),
    };
    match (&table.farm, &table.redirect, &table.respond, &table.refuse) {
        (Some(farm), None, None, None) => Some(Action::Farm(farm.get_ref().clone())),
        (None, Some(to), None, None) => {
            let status = status(302, 301..=308);
            let to = target(to, problems);
            Some(Action::Redirect { status: status?, to: to? })
        }
        (None, None, Some(text), None) => {
            let status = status(200, 200..=599)?;
            response(status, text, table.content_type.as_ref(), problems).map(Action::Respond)
        }
        (None, None, None, Some(why)) => Some(Action::Refuse { why: why.get_ref().clone() }),
        _ => {
            let text = "a route needs exactly one of `farm`, `redirect`, `respond` and `refuse`";
            problems.add(Problem::at(raw.span(), text));
            None
        }
    }
}

/// The test of its farm that counts for a route. A farm that there is not is told of elsewhere.
fn test(
    raw: &RouteTable,
    farms: &BTreeMap<&str, Target<'_>>,
    problems: &mut Problems,
) -> Option<Option<String>> {
    let Some(name) = &raw.test else {
        return Some(None);
    };
    let Some(farm) = &raw.farm else {
        problems.add(Problem::at(name.span(), "`test` is for routes with `farm`"));
        return None;
    };
    let target = farms.get(farm.get_ref().as_str())?;
    let known = target.tests.contains_key(name.get_ref());
    let text = || format!("the farm \"{}\" has no test \"{}\"", farm.get_ref(), name.get_ref());
    problems.require(known.then(|| Some(name.get_ref().clone())), || {
        Problem::at(name.span(), text()).hint(format!("[farm.tests.{}]", name.get_ref()))
    })
}

/// Where a client may be sent: a path, or a URL of the web.
fn target(raw: &Spanned<String>, problems: &mut Problems) -> Option<String> {
    let text = raw.get_ref();
    let place = ["/", "https://", "http://"].iter().any(|start| text.starts_with(start));
    let sound = place && !text.starts_with("//") && text.chars().all(|c| c.is_ascii_graphic());
    problems.require(sound.then(|| text.clone()), || {
        Problem::at(raw.span(), format!("\"{text}\" is no place to send a client to"))
            .hint("a path such as \"/owa/\" or a URL such as \"https://mail.example.test/\"")
    })
}

/// Some of the site's names.
fn hosts(raw: &[Spanned<String>], names: &[Spanned<String>], problems: &mut Problems) -> Option<Vec<String>> {
    let mut hosts = Vec::new();
    for host in raw {
        let text = host.get_ref();
        let Some(name) = problems.require(host_name(text), || not_a_host_name(host)) else {
            continue;
        };
        let known = is_among(&name, names);
        hosts.extend(problems.require(known.then_some(name), || {
            Problem::at(host.span(), format!("the site has no name \"{text}\""))
                .hint("add it to the site's `names`")
        }));
    }
    (hosts.len() == raw.len()).then_some(hosts)
}

/// Names of header fields and what their values have to be.
fn headers(
    raw: &BTreeMap<String, Spanned<String>>,
    problems: &mut Problems,
) -> Option<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    for (name, value) in raw {
        let (text, known) = (value.get_ref(), Known::of(name.as_bytes()));
        let (wrong, hint) = if !is_token(name.as_bytes()) {
            (format!("\"{name}\" is not the name of a header field"), "\"User-Agent\"")
        } else if matches!(known, Known::ProxySays | Known::Alias | Known::RequestId) {
            let wrong = format!("what a client says in {name} is not believed, so no route can go by it");
            (wrong, "`networks` goes by the client's address")
        } else if known == Known::Host {
            ("no route can go by Host as a header field".to_owned(), "`hosts` goes by it")
        } else if text.len() > 1024 || text.contains(char::is_control) {
            (format!("no value of {name} can be that"), "up to 1024 characters; \"*\" is any value")
        } else {
            headers.insert(name.to_ascii_lowercase(), text.clone());
            continue;
        };
        problems.add(Problem::at(value.span(), wrong).hint(hint));
    }
    (headers.len() == raw.len()).then_some(headers)
}

fn methods(raw: &[Spanned<String>], problems: &mut Problems) -> Option<Vec<String>> {
    let sound = |method: &str| {
        !method.is_empty()
            && method.len() <= 32
            && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    let mut methods = Vec::new();
    for method in raw {
        let text = method.get_ref();
        methods.extend(problems.require(sound(text).then(|| text.clone()), || {
            Problem::at(method.span(), format!("\"{text}\" is not a method"))
                .hint("\"GET\", \"POST\", \"RPC_IN_DATA\"")
        }));
    }
    (methods.len() == raw.len()).then_some(methods)
}

/// Networks of clients.
pub(super) fn networks(raw: &[Spanned<String>], problems: &mut Problems) -> Option<Vec<Network>> {
    let mut networks = Vec::new();
    for network in raw {
        match network.get_ref().parse() {
            Ok(network) => networks.push(network),
            Err(error) => problems.add(Problem::of_error(network.span(), error)),
        }
    }
    (networks.len() == raw.len()).then_some(networks)
}

/// The networks of `allow` and of `deny`, which do not contradict each other.
pub(super) fn access(
    allow: &[Spanned<String>],
    deny: &[Spanned<String>],
    problems: &mut Problems,
) -> Option<(Vec<Network>, Vec<Network>)> {
    let (allowed, denied) = (networks(allow, problems), networks(deny, problems));
    let lists = (allowed?, denied?);
    let Err(error) = AccessList::new(&lists.0, &lists.1) else {
        return Some(lists);
    };
    let named = |one: &Network| matches!(&error, NetworkError::Contradiction { network } if network == one);
    let place = deny.iter().zip(&lists.1).find(|(_, network)| named(network));
    problems.add(Problem::of_error(place.map(|(raw, _)| raw.span()).unwrap_or_default(), error));
    None
}

/// `start`, less what the table says otherwise.
pub(super) fn bounds(raw: &BoundsTable, start: Bounds, problems: &mut Problems) -> Option<Bounds> {
    let second = Duration::from_secs(1);
    let mut time = |what: &str, raw: &Option<Spanned<Time>>| match raw {
        Some(raw) => problems.time(what, raw, second..=second * 86_400).map(Some),
        None => Some(None),
    };
    let silence = time("idle_timeout", &raw.idle_timeout)?.unwrap_or(start.silence);
    let total = time("total_timeout", &raw.total_timeout)?.or(start.total);
    let body = raw.body_limit.as_ref().map_or(start.body, |size| {
        let Size(bytes) = *size.get_ref();
        bytes
    });
    Some(Bounds { silence, total, body })
}

/// The bounds of a farm that there is.
fn known(
    farm: &Spanned<String>,
    farms: &BTreeMap<&str, Target<'_>>,
    problems: &mut Problems,
) -> Option<Bounds> {
    let found = farms.get(farm.get_ref().as_str()).map(|target| target.bounds);
    problems
        .require(found, || Problem::at(farm.span(), format!("no [[farm]] is named \"{}\"", farm.get_ref())))
}
