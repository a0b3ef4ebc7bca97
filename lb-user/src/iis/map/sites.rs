//! Bindings to sites: which names, which certificate, which port. Pure. What a site does with requests comes from `rules`.

use std::collections::{BTreeMap, BTreeSet};

use super::patterns::is_host_name;
use super::rules::{Goal, Planned, Rules};
use super::{Certificate, Mapper};
use crate::config::model::FieldEdits;
use crate::iis::draft::{self, Face, Fill};
use crate::iis::ledger::Became;
use crate::iis::model::{Outbound, Scope, Settings};
use crate::proxy::headers::{Changes, Side};
use crate::proxy::rewrite::spec::{MapSpec, Maps};

/// A site as it will be written, before its farms have names.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) draft: draft::Site,
    pub(super) planned: Vec<Planned>,
    /// Its name in IIS.
    pub(super) iis: String,
    /// The rule that its `farm` stands for, by its place in the model.
    pub(super) dropped: Option<usize>,
}

/// What bindings of one IIS site have in common.
#[derive(Clone, Debug, Default)]
struct Door {
    iis: String,
    port: u16,
    thumbprint: String,
    hosts: Vec<String>,
    /// The bindings' numbers in the ledger.
    ids: Vec<usize>,
}

impl Mapper<'_> {
    /// The sites that bindings and rules ask for.
    pub(super) fn sites(&mut self) -> Vec<Plan> {
        self.rules_of_folders();
        let (doors, http) = self.doors();
        let model = self.model;
        let publishes = model.rules.iter().any(|rule| rule.own.is("enabled", true));
        let nowhere = doors.is_empty() && publishes;
        let first = model.sites.first().map_or("", |site| site.own.text_or("name", ""));
        let doors =
            if nowhere { vec![Door { iis: first.to_owned(), port: 443, ..Door::default() }] } else { doors };
        if nowhere {
            self.remarks.push(
                "no binding is for https: the site's certificate and names are to be filled in".to_owned(),
            );
        }
        self.rules_of_others(&doors.iter().map(|door| door.iis.clone()).collect());
        let mut taken = BTreeSet::new();
        let mut plans = Vec::new();
        for door in doors {
            let maps = self.maps(&door.iis);
            let rules = self.rules(&door.iis, door.port, &maps);
            if let Some(plan) = self.plan(&door, rules, maps, http.contains(&door.iis), &mut taken) {
                plans.push(plan);
            }
        }
        self.settle_maps(&plans);
        plans
    }

    /// The bindings for https, by site, port and certificate; and which sites take http at port 80.
    fn doors(&mut self) -> (Vec<Door>, BTreeSet<String>) {
        let (mut doors, mut http): (Vec<Door>, BTreeSet<String>) = Default::default();
        let model = self.model;
        for site in &model.sites {
            let iis = site.own.text_or("name", "").to_owned();
            self.say_all(&site.own, &Became::unneeded("names and numbers of sites are IIS's own"));
            for binding in &site.bindings {
                self.settle_binding(binding);
                let information = binding.text_or("bindingInformation", "");
                let (port, host) = port_and_host(information);
                let https = binding.text_or("protocol", "http").eq_ignore_ascii_case("https");
                let Some(port) = port.filter(|_| https) else {
                    if port == Some(80) && binding.text_or("protocol", "http").eq_ignore_ascii_case("http") {
                        http.insert(iis.clone());
                    }
                    continue;
                };
                let thumbprint = binding.text_or("certificateHash", "").to_ascii_lowercase();
                let fits =
                    |door: &&mut Door| door.iis == iis && door.port == port && door.thumbprint == thumbprint;
                let host = host.to_ascii_lowercase();
                if !host.is_empty() && !is_host_name(&host) {
                    let why = "a host name that no certificate can be for; add the name clients use to the site's names";
                    self.say(binding.id_of("bindingInformation"), Became::refused(why));
                    continue;
                }
                let door = match doors.iter_mut().find(fits) {
                    Some(door) => door,
                    None => {
                        doors.push(Door { iis: iis.clone(), port, thumbprint, ..Door::default() });
                        let last = doors.len() - 1;
                        &mut doors[last]
                    }
                };
                door.ids.push(binding.id);
                if !host.is_empty() && !door.hosts.contains(&host) {
                    door.hosts.push(host);
                }
            }
        }
        (doors, http)
    }

    fn settle_binding(&mut self, binding: &Settings) {
        let information = binding.text_or("bindingInformation", "");
        let became = match binding.text_or("protocol", "http").to_ascii_lowercase().as_str() {
            "https" if port_and_host(information).0.is_some() => Became::mapped("[[site]]"),
            "http" if port_and_host(information).0 == Some(80) => {
                Became::warned("requests without TLS are redirected to https; IIS treated them by its rules")
            }
            "http" => {
                Became::refused("a site without TLS at another port than 80; there is no such way here")
            }
            "https" => Became::refused("no address, port and host"),
            _ => Became::unneeded("neither http nor https; nothing of it went through ARR"),
        };
        self.say_all(binding, &became);
        if !information.is_empty() && !information.starts_with("*:") && became.as_str() == "mapped" {
            let why = "a single address; sites listen on every cluster IP";
            self.say(binding.id_of("bindingInformation"), Became::warned(why));
        }
        for (name, said) in &binding.values {
            let became = match name.as_str() {
                "protocol" | "bindingInformation" => continue,
                "sslFlags" => Became::unneeded("all sites are told apart by the name in the handshake"),
                "certificateHash" => Became::mapped("certificate of the [[site]]"),
                "certificateStoreName" => Became::unneeded("certificates are files here"),
                _ => Became::refused("not known to this import; see what it did in IIS"),
            };
            self.ledger.settle(said.id, became);
        }
    }

    fn plan(
        &mut self,
        door: &Door,
        rules: Rules,
        maps: Maps,
        http: bool,
        taken: &mut BTreeSet<(u16, String)>,
    ) -> Option<Plan> {
        let Rules { mut planned, redirect, missing } = rules;
        if planned.iter().all(|planned| !planned.spec.enabled || planned.index == usize::MAX) {
            door.ids
                .iter()
                .for_each(|id| self.say(*id, Became::unneeded("no rule does anything for this site")));
            return None;
        }
        let certificate = self.certificate(door, &planned);
        let mut names = names(door, &planned, certificate.as_ref());
        names.retain(|name| taken.insert((door.port, name.clone())));
        if names.is_empty() && !door.hosts.is_empty() {
            let why = "all its names belong to another site already";
            door.ids.iter().for_each(|id| self.say(*id, Became::refused(why)));
            return None;
        }
        // The first is what servers are asked for.
        names.sort_by_key(|name| name.starts_with("*."));
        if names.first().is_some_and(|name| name.starts_with("*.")) {
            names.insert(0, names[0].replacen('*', "mail", 1));
            self.remarks
                .push(format!("{} stands for no single host; {} was put before it", names[1], names[0]));
        }
        for planned in &mut planned {
            planned.hosts.retain(|host| is_among(host, &names) && !host.starts_with("*."));
        }
        let blank = "the site's certificate with its key, a PEM or .pfx file, as an absolute path";
        let face = Face {
            names,
            certificate: Fill::of(certificate.as_ref().map(|found| found.path.clone()), blank),
            key: certificate.as_ref().and_then(|found| found.key.clone()),
            password_file: certificate.as_ref().and_then(|found| found.password_file.clone()),
            port: door.port,
            redirect_http: (redirect || http) && door.port != 80,
            hsts: None,
            set: Vec::new(),
            remove: Vec::new(),
        };
        let mut comment = match door.iis.as_str() {
            "" => "Of the server's rules".to_owned(),
            iis => format!("The site {iis} of IIS"),
        };
        for (name, why) in &missing {
            comment.push_str(&format!("\nNOT HERE: the rule {name}: {why}"));
        }
        let comment = comment.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        let (rules, routes) = (Vec::new(), Vec::new());
        let draft = draft::Site { comment, face, farm: None, rewrite_location: false, maps, rules, routes };
        Some(Plan { draft, planned, iis: door.iis.clone(), dropped: None })
    }

    /// The certificate by its thumbprint, or one that is for the site's names.
    fn certificate(&self, door: &Door, planned: &[Planned]) -> Option<Certificate> {
        let all = &self.known.certificates;
        if let Some(found) = all.iter().find(|known| known.thumbprint == door.thumbprint) {
            return Some(found.clone());
        }
        let wanted = names(door, planned, None);
        let serves = |known: &&Certificate, name: &String| is_among(name, &known.names);
        let whole =
            all.iter().find(|known| !wanted.is_empty() && wanted.iter().all(|name| serves(known, name)));
        let part = || all.iter().find(|known| wanted.first().is_some_and(|name| serves(known, name)));
        let only = || all.first().filter(|_| all.len() == 1 && wanted.is_empty());
        whole.or_else(part).or_else(only).cloned()
    }

    /// The maps that rules of the IIS site `site` may use.
    fn maps(&self, site: &str) -> Maps {
        let mut maps = BTreeMap::new();
        for map in &self.model.maps {
            match &map.scope {
                Scope::Server => {}
                Scope::Site(name) if name.eq_ignore_ascii_case(site) => {}
                Scope::Site(_) | Scope::Folder(_) => continue,
            }
            let entries = map
                .entries
                .iter()
                .map(|entry| (entry.text_or("key", "").to_owned(), entry.text_or("value", "").to_owned()));
            let spec = MapSpec {
                default: map.own.text_or("defaultValue", "").to_owned(),
                ignore_case: map.own.is("ignoreCase", true),
                entries: entries.collect(),
            };
            maps.insert(map.own.text_or("name", "").to_owned(), spec);
        }
        maps
    }

    fn settle_maps(&mut self, plans: &[Plan]) {
        let model = self.model;
        for map in &model.maps {
            let name = map.own.text_or("name", "");
            let carried = plans.iter().any(|plan| plan.draft.maps.contains_key(name));
            let became = match &map.scope {
                Scope::Folder(_) => {
                    Became::refused("a map of a folder; sites have maps of their own, folders none")
                }
                Scope::Server | Scope::Site(_) if carried => Became::mapped(format!("[site.maps] {name}")),
                Scope::Server | Scope::Site(_) => Became::unneeded("no site that is carried over uses it"),
            };
            for (settings, known) in [(&map.own, &["name", "defaultValue", "ignoreCase"][..])]
                .into_iter()
                .chain(map.entries.iter().map(|entry| (entry, &["key", "value"][..])))
            {
                self.say(settings.id, became.clone());
                let known = settings.values.iter().filter(|(name, _)| known.contains(&name.as_str()));
                known.for_each(|(_, said)| self.ledger.settle(said.id, became.clone()));
            }
        }
    }

    /// Fields of responses: custom headers and outbound rules that write one.
    pub(super) fn headers(&mut self, plans: &mut [Plan]) {
        let model = self.model;
        for header in &model.headers {
            let (name, value) = (header.said.text_or("name", ""), header.said.text_or("value", ""));
            if name.eq_ignore_ascii_case("X-Powered-By") {
                self.say_all(&header.said, &Became::unneeded("tells clients of IIS, which is gone"));
                continue;
            }
            if !is_settable(name, value) || matches!(header.scope, Scope::Folder(_)) {
                let why = "no field that response_headers of a site can set; write it yourself";
                self.say_all(&header.said, &Became::refused(why));
                continue;
            }
            self.say_all(&header.said, &Became::mapped(format!("response_headers.set of sites: {name}")));
            for plan in plans.iter_mut().filter(|plan| holds(&header.scope, &plan.iis)) {
                set(&mut plan.draft.face, name, value);
            }
        }
        for rule in &model.outbound {
            let became = outbound(rule, plans);
            rule.all.iter().for_each(|id| self.ledger.settle(*id, became.clone()));
        }
    }
}

/// What becomes of an outbound rule: those that write, remove or correct one field whatever it is are carried over.
fn outbound(rule: &Outbound, plans: &mut [Plan]) -> Became {
    if !rule.own.is("enabled", true) {
        return Became::unneeded("off");
    }
    let refused = || {
        Became::refused(
            "an outbound rule; answers' bodies are not rewritten here, and fields only as response_headers can",
        )
    };
    let variable = rule.matching.text_or("serverVariable", "");
    let Some(field) = variable.strip_prefix("RESPONSE_").map(|field| field.replace('_', "-")) else {
        return refused();
    };
    let concerned = plans.iter_mut().filter(|plan| holds(&rule.scope, &plan.iis));
    if field.eq_ignore_ascii_case("Location") {
        concerned.for_each(|plan| plan.draft.rewrite_location = true);
        return Became::warned(
            "rewrite_location = true of sites: a Location that names a server is made to name the site, and no other",
        );
    }
    let value = rule.action.text_or("value", "");
    let any =
        [".*", ".+", "(.*)", "(.+)", "^.*$", "^(.*)$", "*"].contains(&rule.matching.text_or("pattern", ""));
    let rewrites = rule.action.text_or("type", "None").eq_ignore_ascii_case("Rewrite");
    let field = titled(&field);
    if rule.conditional || !any || !rewrites || !is_settable(&field, value) {
        return refused();
    }
    concerned.for_each(|plan| set(&mut plan.draft.face, &field, value));
    Became::mapped(format!("response_headers of sites: {field}"))
}

fn holds(scope: &Scope, iis: &str) -> bool {
    match scope {
        Scope::Server => true,
        Scope::Site(name) => name.eq_ignore_ascii_case(iis),
        Scope::Folder(_) => false,
    }
}

/// An empty value takes the field away, as IIS does it.
fn set(face: &mut Face, name: &str, value: &str) {
    if let Some(seconds) = max_age(name, value) {
        face.hsts = Some(seconds);
        return;
    }
    face.set.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    face.remove.retain(|known| !known.eq_ignore_ascii_case(name));
    if value.is_empty() {
        face.remove.push(name.to_owned());
    } else {
        face.set.push((name.to_owned(), value.to_owned()));
    }
}

/// What a site's `hsts` says.
fn max_age(name: &str, value: &str) -> Option<u64> {
    let seconds = value
        .trim()
        .strip_prefix("max-age=")
        .filter(|_| name.eq_ignore_ascii_case("Strict-Transport-Security"))?;
    seconds.parse().ok().filter(|seconds| *seconds <= 3650 * 86_400)
}

/// `Server` for `SERVER`: letters' case does not count in names of fields.
fn titled(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect::<String>()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// Whether a site may write the field, or take it away; without variables, which mean other things in a response.
fn is_settable(name: &str, value: &str) -> bool {
    if max_age(name, value).is_some() {
        return true;
    }
    let mut edits = FieldEdits::default();
    if value.is_empty() {
        edits.remove.insert(name.to_owned());
    } else {
        edits.set.insert(name.to_owned(), value.to_owned());
    }
    let compiled = Changes::compile(Side::Response, &edits, &FieldEdits::default(), &Maps::new());
    compiled.is_ok() && !value.contains(['{', '}'])
}

/// Host names by bindings, else by rules, else by the certificate.
fn names(door: &Door, planned: &[Planned], certificate: Option<&Certificate>) -> Vec<String> {
    let mut names = door.hosts.clone();
    if names.is_empty() {
        let live = planned.iter().filter(|planned| planned.spec.enabled && planned.goal != Goal::Elsewhere);
        names = live.clone().flat_map(|planned| planned.hosts.clone()).collect();
        // A rule for any host is for more than the others name.
        if live.clone().any(|planned| planned.hosts.is_empty()) {
            let more = certificate.map(|found| found.names.clone()).unwrap_or_default();
            let more = more.into_iter().map(|name| name.to_ascii_lowercase());
            names.extend(more.filter(|name| is_host_name(name)));
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Whether `name` is one of `names`, or one that a wildcard among them stands for.
fn is_among(name: &str, names: &[String]) -> bool {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|known| {
        let known = known.to_ascii_lowercase();
        known == name || parent.is_some_and(|parent| known.strip_prefix("*.") == Some(parent))
    })
}

/// Of `ADDRESS:PORT:HOST`; the address may be IPv6 in brackets.
fn port_and_host(information: &str) -> (Option<u16>, &str) {
    let mut parts = information.rsplitn(3, ':');
    let host = parts.next().unwrap_or_default();
    let port = parts.next().and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    (port, host)
}
