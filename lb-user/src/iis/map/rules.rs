//! Rewrite rules of a site: the server's, then its own, in the order in which IIS tries them. Pure.
//!
//! Sites here take requests over TLS alone. So a rule that cannot hold over TLS, or that comes behind one that takes everything, is left out
//! and said to be; one that sends such requests to https becomes `redirect_http`. Sources: URL Rewrite Module Configuration Reference;
//! Creating Rewrite Rules for the URL Rewrite Module (Microsoft Learn).

mod spec;

use std::collections::BTreeSet;

use self::spec::{Fault, id_of, spec};
use super::Mapper;
use super::patterns::{self, Truth};
use crate::iis::ledger::Became;
use crate::iis::model::{Rule, Scope, boolean};
use crate::iis::write::quoted;
use crate::proxy::headers::check_rules;
use crate::proxy::rewrite::pattern::Syntax;
use crate::proxy::rewrite::rule::RuleSet;
use crate::proxy::rewrite::spec::{
    ActionSpec, ConditionSpec, ConditionsSpec, Grouping, Maps, PatternSpec, RuleSpec,
};

/// A rule as it will be written, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) spec: RuleSpec,
    pub(super) goal: Goal,
    /// Where it stands in the model.
    pub(super) index: usize,
    /// Folders that it is for; empty: any path.
    pub(super) folders: Vec<String>,
    /// Host names that it is for; empty: any.
    pub(super) hosts: Vec<String>,
    /// Whether it holds of every request over TLS.
    pub(super) takes_all: bool,
}

/// Where a rule sends requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To no farm.
    Elsewhere,
    /// To a farm, whose name is put before the rest of the URL once it is sure; `unchanged`: with the client's own path and query.
    Farm { target: Target, rest: String, unchanged: bool },
    /// To one of several, by what is asked for.
    Any(Vec<Target>),
}

/// A farm and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) behind: Behind,
    pub(super) tls: bool,
}

/// What answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Behind {
    /// A farm of the model.
    Farm(usize),
    /// A host that is no farm: ARR as a plain reverse proxy.
    Host(String, Option<u16>),
}

/// What a site's rules come to.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) planned: Vec<Planned>,
    /// Requests without TLS are sent to https.
    pub(super) redirect: bool,
    /// Names of rules that are not carried over, and why not.
    pub(super) missing: Vec<(String, String)>,
}

impl Mapper<'_> {
    /// The rules that hold for the IIS site `site` at `port`.
    pub(super) fn rules(&mut self, site: &str, port: u16, maps: &Maps) -> Rules {
        let mut rules = Rules::default();
        let mut taken: Option<String> = None;
        let model = self.model;
        for (index, rule) in model.rules.iter().enumerate() {
            match &rule.scope {
                Scope::Server => {}
                Scope::Site(name) if name.eq_ignore_ascii_case(site) => {}
                Scope::Site(_) | Scope::Folder(_) => continue,
            }
            let name = unique(rule, index, &rules);
            if let Some(before) = taken.as_ref().filter(|_| rule.own.is("enabled", true)) {
                let why = format!("never reached over TLS: the rule {} before it takes all", quoted(before));
                self.settle_rule(rule, &Became::warned(why));
                continue;
            }
            match self.planned(rule, index, name.clone(), port, maps) {
                Ok(Some(planned)) => {
                    let to = format!("[[site.rewrite]] {}", quoted(&name));
                    self.settle_rule(rule, &Became::mapped(to));
                    self.note_action(rule, &planned);
                    if planned.takes_all && planned.spec.enabled && ends(&planned.spec) {
                        taken = Some(name);
                    }
                    rules.planned.push(planned);
                }
                Ok(None) if redirects_to_https(rule) => {
                    rules.redirect = true;
                    self.settle_rule(rule, &Became::mapped("redirect_http = true"));
                }
                Ok(None) => self.settle_rule(rule, &Became::warned(WITHOUT_TLS)),
                Err(Fault { id, why }) => {
                    let line = self.ledger.line(id);
                    let rest = format!("its rule is not carried over, for what line {line} says");
                    self.settle_rule(rule, &Became::refused(rest));
                    self.say(id, Became::refused(why.clone()));
                    rules.missing.push((name, why));
                }
            }
        }
        self.close(&mut rules);
        rules
    }

    /// Rules of sites that are none here, those with bindings for https apart.
    pub(super) fn rules_of_others(&mut self, sites: &BTreeSet<String>) {
        let model = self.model;
        for rule in &model.rules {
            if let Scope::Site(site) = &rule.scope
                && !sites.iter().any(|known| known.eq_ignore_ascii_case(site))
            {
                let why = format!("a rule of the site {site}, which has no binding for https");
                self.settle_rule(rule, &Became::refused(why));
            }
        }
    }

    /// Rules of folders, which no site has.
    pub(super) fn rules_of_folders(&mut self) {
        let model = self.model;
        for rule in &model.rules {
            if let Scope::Folder(folder) = &rule.scope {
                let why = format!(
                    "a rule of the folder {folder}, whose paths begin there; write it for the whole path"
                );
                self.settle_rule(rule, &Became::refused(why));
            }
        }
    }

    /// `Ok(None)`: it never holds over TLS.
    fn planned(
        &mut self,
        rule: &Rule,
        index: usize,
        name: String,
        port: u16,
        maps: &Maps,
    ) -> Result<Option<Planned>, Fault> {
        let spec = spec(rule, name)?;
        let truth = patterns::over_tls(&spec.conditions, spec.syntax, port);
        if truth == Truth::Never && spec.enabled {
            return Ok(None);
        }
        let (spec, goal) = self.aimed(rule, spec)?;
        let compiled = RuleSet::compile(std::slice::from_ref(&spec), maps);
        let checked = match &compiled {
            Ok(rules) => check_rules(rules).map_err(|error| (error.place, error.cause.to_string())),
            Err(error) => Err((error.place, error.cause.to_string())),
        };
        checked.map_err(|(place, cause)| Fault {
            id: id_of(rule, place),
            why: cause.replace("; hint: ", ": "),
        })?;
        let hosts = hosts(&spec);
        Ok(Some(Planned {
            takes_all: truth == Truth::Always && patterns::is_all(&spec.url, spec.syntax),
            folders: patterns::folders(&spec.url, spec.syntax),
            hosts,
            index,
            goal,
            spec,
        }))
    }

    /// The rule with what its URL names, and what IIS itself would have answered, as an answer.
    fn aimed(&mut self, rule: &Rule, mut spec: RuleSpec) -> Result<(RuleSpec, Goal), Fault> {
        let ends_in_iis = match &spec.action {
            ActionSpec::Rewrite { url, .. } if url.contains("://") => {
                let goal = self.goal(rule, &spec, url)?;
                return Ok((spec, goal));
            }
            ActionSpec::Rewrite { .. } => spec.stop_processing,
            ActionSpec::None => spec.stop_processing && rule.action.text_or("type", "None") == "None",
            ActionSpec::Redirect { .. } | ActionSpec::CustomResponse { .. } | ActionSpec::AbortRequest => {
                false
            }
        };
        if ends_in_iis {
            spec.action = not_found();
        }
        Ok((spec, Goal::Elsewhere))
    }

    fn goal(&mut self, rule: &Rule, spec: &RuleSpec, url: &str) -> Result<Goal, Fault> {
        let fault = |why: String| Fault { id: rule.action.id_of("url"), why };
        let (scheme, behind) = url.split_once("://").unwrap_or_default();
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => {
                return Err(fault(
                    "a scheme that is neither http nor https; write a rule for each".to_owned(),
                ));
            }
        };
        let end = authority_end(behind);
        let (authority, rest) = behind.split_at(end);
        if authority.contains('{') {
            return self.goals(authority, tls).map(Goal::Any).ok_or_else(|| {
                fault(
                    "a farm by what is asked for, and none of that name is known; write a rule for each"
                        .to_owned(),
                )
            });
        }
        let farm = self.model.farms.iter().position(|farm| farm.name().eq_ignore_ascii_case(authority));
        let behind = match (farm, host_and_port(authority)) {
            (Some(farm), _) => Behind::Farm(farm),
            (None, Some((host, port))) if self.address(host).is_some() => {
                Behind::Host(host.to_ascii_lowercase(), port)
            }
            (None, _) => {
                return Err(fault(format!(
                    "there is no farm {} and no address for such a host; correct the name, or give the address by --hosts",
                    quoted(authority)
                )));
            }
        };
        let unchanged = unchanged(spec, rest);
        Ok(Goal::Farm { target: Target { behind, tls }, rest: rest.to_owned(), unchanged })
    }

    /// The farms that an authority made of variables may name: those in the map that is asked, or any.
    fn goals(&self, authority: &str, tls: bool) -> Option<Vec<Target>> {
        let named = authority.strip_prefix('{').and_then(|text| text.split_once(':')).map(|(name, _)| name);
        let map = self
            .model
            .maps
            .iter()
            .find(|map| named.is_some_and(|name| map.own.text_or("name", "").eq_ignore_ascii_case(name)));
        let values: Option<Vec<&str>> = map.map(|map| {
            let entries = map.entries.iter().filter_map(|entry| entry.text("value"));
            entries.chain(map.own.text("defaultValue")).collect()
        });
        let farms = self.model.farms.iter().enumerate();
        let meant =
            farms.filter(|(_, farm)| values.as_ref().is_none_or(|values| values.contains(&farm.name())));
        let targets: Vec<Target> = meant.map(|(at, _)| Target { behind: Behind::Farm(at), tls }).collect();
        (!targets.is_empty()).then_some(targets)
    }

    pub(super) fn settle_rule(&mut self, rule: &Rule, became: &Became) {
        let parts = [
            (&rule.own, &OWN[..]),
            (&rule.matching, &MATCH),
            (&rule.conditions, &CONDITIONS),
            (&rule.action, &ACTION),
        ];
        let list = rule.list.iter().map(|add| (add, &ADD[..]));
        let set = rule.set.iter().map(|set| (set, &SET[..]));
        for (settings, names) in parts.into_iter().chain(list).chain(set) {
            if settings.element.is_empty() {
                continue;
            }
            self.say(settings.id, became.clone());
            for (name, said) in settings.values.iter().filter(|(name, _)| names.contains(&name.as_str())) {
                let wrong = BOOLEANS.contains(&name.as_str()) && boolean(&said.value).is_none();
                let became = if wrong {
                    Became::refused("neither true nor false; the default holds")
                } else {
                    became.clone()
                };
                self.ledger.settle(said.id, became);
            }
        }
    }

    /// What is otherwise about an action that is carried over.
    pub(super) fn note_action(&mut self, rule: &Rule, planned: &Planned) {
        let action = &rule.action;
        if action.text("subStatusCode").is_some_and(|code| code != "0") {
            self.say(action.id_of("subStatusCode"), Became::warned("answers have no sub-status here"));
        }
        if action.is("logRewrittenUrl", false) {
            self.say(action.id_of("logRewrittenUrl"), Became::warned("the log has the client's own URL"));
        }
        if planned.spec.action == not_found() && action.text_or("type", "None") != "CustomResponse" {
            self.say(
                action.id,
                Became::warned("IIS itself answered; there is no content here, so it is answered with 404"),
            );
        }
        match &planned.goal {
            Goal::Any(_) => {
                self.say(action.id_of("url"), Became::warned("only farms that are configured are followed"))
            }
            Goal::Farm { target: Target { tls: false, .. }, .. } => {
                self.say(action.id_of("url"), Became::warned(OFFLOADED));
            }
            Goal::Farm { .. } | Goal::Elsewhere => {}
        }
    }

    /// What no rule is for was answered by IIS itself.
    fn close(&mut self, rules: &mut Rules) {
        let live = |planned: &Planned| planned.spec.enabled;
        let farm = |planned: &Planned| planned.goal != Goal::Elsewhere;
        if let Some(last) = rules.planned.iter_mut().rev().find(|planned| live(planned)) {
            last.spec.stop_processing |= farm(last);
        }
        let goes_on = |planned: &&Planned| live(planned) && farm(planned) && !planned.spec.stop_processing;
        if let Some(planned) = rules.planned.iter().find(goes_on) {
            let why = format!(
                "the rule {} goes on after it named a farm; what no rule is for goes by the routes, where IIS would have answered itself",
                quoted(&planned.spec.name)
            );
            self.remarks.push(why);
            return;
        }
        let last = rules.planned.iter().rev().find(|planned| live(planned));
        if last.is_some_and(|last| !last.takes_all || !ends(&last.spec)) {
            let url = PatternSpec { pattern: "*".to_owned(), ignore_case: true, negate: false };
            let spec = RuleSpec {
                name: NOTHING_ELSE.to_owned(),
                enabled: true,
                syntax: Syntax::Wildcard,
                stop_processing: true,
                url,
                conditions: ConditionsSpec::default(),
                set: Vec::new(),
                action: not_found(),
            };
            let (folders, hosts, index) = (Vec::new(), Vec::new(), usize::MAX);
            rules.planned.push(Planned {
                spec,
                goal: Goal::Elsewhere,
                index,
                folders,
                hosts,
                takes_all: true,
            });
        }
    }
}

/// What IIS answers where there is nothing.
fn not_found() -> ActionSpec {
    let (reason, description) = ("Not Found".to_owned(), String::new());
    ActionSpec::CustomResponse { status: 404, substatus: 0, reason, description }
}

/// Whether nothing comes behind it.
fn ends(spec: &RuleSpec) -> bool {
    match spec.action {
        ActionSpec::None | ActionSpec::Rewrite { .. } => spec.stop_processing,
        ActionSpec::Redirect { .. } | ActionSpec::CustomResponse { .. } | ActionSpec::AbortRequest => true,
    }
}

fn unique(rule: &Rule, index: usize, rules: &Rules) -> String {
    let name = match rule.own.text_or("name", "").trim() {
        "" => format!("rule {}", index + 1),
        name => name.to_owned(),
    };
    let taken = |name: &str| rules.planned.iter().any(|planned| planned.spec.name == name);
    if taken(&name) { format!("{name} {}", index + 1) } else { name }
}

fn redirects_to_https(rule: &Rule) -> bool {
    let url = rule.action.text_or("url", "").to_ascii_lowercase();
    rule.action.text("type") == Some("Redirect") && url.starts_with("https://")
}

/// Up to the path; a `/` within braces belongs to them.
fn authority_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let end = text.find(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(letter, '/' | '?' | '#')
    });
    end.unwrap_or(text.len())
}

fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    match authority.split_once(':') {
        None if authority.is_empty() => None,
        None => Some((authority, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))),
    }
}

/// Whether path and query stay the client's.
fn unchanged(spec: &RuleSpec, rest: &str) -> bool {
    let ActionSpec::Rewrite { append_query, .. } = &spec.action else { return false };
    let whole = |number| patterns::is_whole(&spec.url, spec.syntax, number);
    match rest {
        // The whole match of a pattern that begins and ends with the path.
        "/{R:0}" => {
            *append_query
                && (whole('0')
                    || spec.url.pattern.ends_with('*')
                    || spec.url.pattern.ends_with(".*)?$")
                    || spec.url.pattern.ends_with("(.*)$"))
        }
        "/{R:1}" => *append_query && whole('1'),
        "{REQUEST_URI}" | "{UNENCODED_URL}" => !append_query,
        _ => false,
    }
}

/// The host names that conditions on `{HTTP_HOST}` or `{SERVER_NAME}` admit.
fn hosts(spec: &RuleSpec) -> Vec<String> {
    let of_host = |condition: &&ConditionSpec| {
        ["{HTTP_HOST}", "{SERVER_NAME}"].iter().any(|name| condition.input.trim().eq_ignore_ascii_case(name))
    };
    let list = &spec.conditions.list;
    let about: Vec<&ConditionSpec> = list.iter().filter(of_host).collect();
    let each = about.iter().map(|condition| patterns::hosts(&condition.pattern, spec.syntax));
    match spec.conditions.grouping {
        Grouping::MatchAll => each.into_iter().find(|names| !names.is_empty()).unwrap_or_default(),
        Grouping::MatchAny if about.len() == list.len() => {
            let each: Vec<Vec<String>> = each.collect();
            if each.iter().any(Vec::is_empty) { Vec::new() } else { each.concat() }
        }
        Grouping::MatchAny => Vec::new(),
    }
}

/// The name of the rule that stands for IIS's own answers.
pub(super) const NOTHING_ELSE: &str = "what no rule of IIS is for";

const WITHOUT_TLS: &str = "never holds over TLS, and requests without TLS are not passed on here: they are redirected to https or not taken";

const OFFLOADED: &str =
    "SSL offloading: servers are spoken to in clear; Exchange's Extended Protection does not work with that";

const OWN: [&str; 4] = ["name", "enabled", "patternSyntax", "stopProcessing"];
const MATCH: [&str; 3] = ["url", "ignoreCase", "negate"];
const CONDITIONS: [&str; 2] = ["logicalGrouping", "trackAllCaptures"];
const ADD: [&str; 5] = ["input", "matchType", "pattern", "ignoreCase", "negate"];
const SET: [&str; 3] = ["name", "value", "replace"];
const ACTION: [&str; 9] = [
    "type",
    "url",
    "appendQueryString",
    "redirectType",
    "statusCode",
    "subStatusCode",
    "statusReason",
    "statusDescription",
    "logRewrittenUrl",
];
const BOOLEANS: [&str; 8] = [
    "enabled",
    "stopProcessing",
    "ignoreCase",
    "negate",
    "trackAllCaptures",
    "replace",
    "appendQueryString",
    "logRewrittenUrl",
];
