//! applicationHost.config: XML to model, and in the ledger what each section is good for here. Pure. Attributes of what goes into the model
//! are settled by `map`; a section that is in none of the lists here stays unknown, and so refused.
//!
//! The sections are those of IIS's own schema files: IIS_schema.xml, rewrite_schema.xml, arr_schema.xml and webfarm.xml.

use super::ledger::{Became, Ledger};
use super::model::{Farm, Model, Outbound, RewriteMap, Rule, Scope, Scoped, Server, Settings, Site};
use super::xml::Element;

/// What `root` says; in `ledger`, what becomes of all that does not go into the model.
pub fn read(root: &Element, ledger: &mut Ledger) -> Model {
    let mut reader = Reader { ledger, model: Model::default() };
    if root.name == "configuration" {
        reader.ledger.settle(root.id, Became::unneeded("the element around all others"));
        root.children.iter().for_each(|section| reader.section(section, &Scope::Server));
    }
    // The server's rules come before those of sites (URL Rewrite Module Configuration Reference).
    reader.model.rules.sort_by_key(|rule| rule.scope != Scope::Server);
    reader.model
}

struct Reader<'a> {
    ledger: &'a mut Ledger,
    model: Model,
}

impl Reader<'_> {
    fn section(&mut self, section: &Element, scope: &Scope) {
        match section.name.as_str() {
            "webFarms" => self.farms(section),
            "system.applicationHost" => self.application_host(section),
            "system.webServer" => self.web_server(section, scope),
            "location" => self.location(section),
            name => match known(&SECTIONS, name) {
                Some(why) => self.ledger.settle_all(section, &Became::unneeded(why)),
                None => self.unknown(section),
            },
        }
    }

    fn unknown(&mut self, element: &Element) {
        let why = format!("the section {} is not known to this import; see what it did in IIS", element.name);
        self.ledger.settle_all(element, &Became::refused(why));
    }

    fn settings(&self, element: &Element) -> Settings {
        Settings::of(element, |id| !self.ledger.is_sealed(id))
    }

    /// An element that only holds others.
    fn around(&mut self, element: &Element, what: &str) {
        self.ledger.settle(element.id, Became::mapped(what));
    }

    fn location(&mut self, location: &Element) {
        let settings = self.settings(location);
        let scope = Scope::of(settings.text_or("path", ""));
        self.ledger.settle(location.id, Became::unneeded("says where what is in it holds"));
        for name in ["path", "overrideMode", "allowOverride", "inheritInChildApplications"] {
            if let Some(said) = settings.values.get(name) {
                self.ledger
                    .settle(said.id, Became::unneeded("says where and for whom a section of IIS holds"));
            }
        }
        location.children.iter().for_each(|section| self.section(section, &scope));
    }

    fn farms(&mut self, section: &Element) {
        self.around(section, "[[farm]]");
        for attribute in &section.attributes {
            self.ledger
                .settle(attribute.id, Became::unneeded("health is tested once per node, whoever asks"));
        }
        for child in &section.children {
            match child.name.as_str() {
                "webFarm" => self.farm(child),
                "applicationRequestRouting" => {
                    let why = "affinity to host names needs no providers here";
                    self.ledger.settle_all(child, &Became::unneeded(why));
                }
                _ => self.unknown(child),
            }
        }
    }

    fn farm(&mut self, element: &Element) {
        let mut farm = Farm { own: self.settings(element), ..Farm::default() };
        for child in &element.children {
            match child.name.as_str() {
                "server" => {
                    let server = self.server(child);
                    farm.servers.push(server);
                }
                "applicationRequestRouting" => self.routing(child, &mut farm),
                name => {
                    let why = format!(
                        "{name} of Web Farm Framework deploys applications to servers; this does not"
                    );
                    self.ledger.settle_all(child, &Became::refused(why));
                }
            }
        }
        self.model.farms.push(farm);
    }

    fn server(&mut self, element: &Element) -> Server {
        let mut server = Server { own: self.settings(element), ..Server::default() };
        for child in &element.children {
            if child.name == "applicationRequestRouting" {
                self.around(child, "servers of the farm");
                server.routing = self.settings(child);
            } else {
                self.unknown(child);
            }
        }
        server
    }

    fn routing(&mut self, element: &Element, farm: &mut Farm) {
        self.around(element, "the farm");
        for child in &element.children {
            let settings = self.settings(child);
            match child.name.as_str() {
                "protocol" => {
                    farm.protocol = settings;
                    for inner in &child.children {
                        if inner.name == "cache" {
                            farm.cache = Some(self.settings(inner));
                        } else {
                            self.unknown(inner);
                        }
                    }
                }
                "healthCheck" => farm.health = settings,
                "affinity" => {
                    farm.affinity = settings;
                    let why = "affinity to host names is not carried over; Exchange needs none";
                    child.children.iter().for_each(|host| {
                        self.ledger.settle_all(host, &Became::refused(why));
                    });
                }
                "loadBalancing" => farm.balancing = settings,
                "publicKeys" => {
                    let why = "keys of Web Farm Framework's agents; there are none here";
                    self.ledger.settle_all(child, &Became::unneeded(why));
                }
                _ => self.unknown(child),
            }
        }
    }

    fn application_host(&mut self, section: &Element) {
        self.around(section, "[[site]]");
        for child in &section.children {
            if child.name == "sites" {
                self.around(child, "[[site]]");
                child.children.iter().for_each(|site| self.site(site));
            } else {
                match known(&APPLICATION_HOST, &child.name) {
                    Some(why) => self.ledger.settle_all(child, &Became::unneeded(why)),
                    None => self.unknown(child),
                }
            }
        }
    }

    fn site(&mut self, element: &Element) {
        if element.name != "site" {
            let why = "defaults of sites' own content and logs; nothing of it is published here";
            return self.ledger.settle_all(element, &Became::unneeded(why));
        }
        let mut site = Site { own: self.settings(element), bindings: Vec::new() };
        for child in &element.children {
            if child.name == "bindings" {
                self.around(child, "[[site]]");
                site.bindings.extend(child.named("binding").map(|binding| self.settings(binding)));
                let others: Vec<&Element> = child.children.iter().filter(|c| c.name != "binding").collect();
                let why = "bindings are only added in a whole file";
                others.into_iter().for_each(|other| self.ledger.settle_all(other, &Became::unneeded(why)));
            } else {
                let why = "content, limits and logs of the site in IIS; what is published comes from farms";
                self.ledger.settle_all(child, &Became::unneeded(why));
            }
        }
        self.model.sites.push(site);
    }

    fn web_server(&mut self, section: &Element, scope: &Scope) {
        self.ledger.settle(section.id, Became::unneeded("the element around sections"));
        for child in &section.children {
            match child.name.as_str() {
                "rewrite" => self.rewrite(child, scope),
                "proxy" => self.proxy(child),
                "httpProtocol" => self.headers(child, scope),
                "httpRedirect" => self.redirect(child),
                "security" => self.security(child),
                name => match known(&WEB_SERVER, name) {
                    Some(why) => self.ledger.settle_all(child, &Became::unneeded(why)),
                    None => self.unknown(child),
                },
            }
        }
    }

    fn proxy(&mut self, element: &Element) {
        let settings = self.settings(element);
        self.model.proxy.push(settings);
        for child in &element.children {
            if child.name == "cache" {
                let settings = self.settings(child);
                self.model.proxy.push(settings);
            } else {
                self.unknown(child);
            }
        }
    }

    fn headers(&mut self, element: &Element, scope: &Scope) {
        let unneeded = Became::unneeded("IIS's own answers, of which there are none here");
        self.ledger.settle_all(element, &unneeded);
        for custom in element.named("customHeaders") {
            for add in custom.named("add") {
                let settings = self.settings(add);
                self.model.headers.push(Scoped { scope: scope.clone(), said: settings });
            }
        }
    }

    fn redirect(&mut self, element: &Element) {
        let on = self.settings(element).is("enabled", false);
        let became = if on {
            Became::refused(
                "httpRedirect sends all requests elsewhere; write it as a [[site.rewrite]] with redirect",
            )
        } else {
            Became::unneeded("off")
        };
        self.ledger.settle_all(element, &became);
    }

    /// Of all that is in it only lists of networks concern the proxy.
    fn security(&mut self, element: &Element) {
        let why = "logon, certificates and filters of IIS's own content; servers decide of logons";
        self.ledger.settle_all(element, &Became::unneeded(why));
        for list in element.named("ipSecurity") {
            let denies = self.settings(list).is("allowUnlisted", true);
            if !list.children.is_empty() || !denies {
                let why = "a list of networks; write it as `allow` and `deny` of the site";
                self.ledger.settle_all(list, &Became::refused(why));
            }
        }
        for filter in element.named("requestFiltering") {
            for limits in filter.named("requestLimits") {
                let why = "limits of requests: body_limit of a route, and [limits], have their own defaults";
                self.ledger.settle_all(limits, &Became::warned(why));
            }
        }
    }

    fn rewrite(&mut self, element: &Element, scope: &Scope) {
        self.around(element, "[[site.rewrite]]");
        for child in &element.children {
            match child.name.as_str() {
                "globalRules" | "rules" => self.rules(child, scope),
                "rewriteMaps" => self.maps(child, scope),
                "outboundRules" => self.outbound(child, scope),
                "allowedServerVariables" => {
                    let why = "any request header field but the proxy's own may be set here";
                    self.ledger.settle_all(child, &Became::unneeded(why));
                }
                "providers" => {
                    let why = "a provider is a program for Windows; make a rewrite map of what it looked up";
                    self.ledger.settle_all(child, &Became::refused(why));
                    let empty = child.children.is_empty();
                    self.ledger.settle(
                        child.id,
                        if empty { Became::unneeded("empty") } else { Became::refused(why) },
                    );
                }
                _ => self.unknown(child),
            }
        }
    }

    fn rules(&mut self, element: &Element, scope: &Scope) {
        self.around(element, "[[site.rewrite]]");
        let defaults = "IIS's defaults in the user interface";
        element.attributes.iter().for_each(|attribute| {
            self.ledger.settle(attribute.id, Became::unneeded(defaults));
        });
        for child in &element.children {
            match child.name.as_str() {
                "rule" => {
                    let rule = self.rule(child, scope);
                    self.model.rules.push(rule);
                }
                "clear" | "remove" => {
                    let why = "takes away rules of the server for a part of it; rules here are per site: see which it was for";
                    let became = if *scope == Scope::Server {
                        Became::unneeded("nothing is there before")
                    } else {
                        Became::warned(why)
                    };
                    self.ledger.settle_all(child, &became);
                }
                _ => self.unknown(child),
            }
        }
    }

    fn rule(&mut self, element: &Element, scope: &Scope) -> Rule {
        let mut rule = Rule {
            scope: scope.clone(),
            own: self.settings(element),
            matching: Settings::default(),
            conditions: Settings::default(),
            list: Vec::new(),
            set: Vec::new(),
            action: Settings::default(),
        };
        for child in &element.children {
            let settings = self.settings(child);
            match child.name.as_str() {
                "match" => rule.matching = settings,
                "conditions" => {
                    rule.conditions = settings;
                    rule.list = self.adds(child, "add");
                }
                "serverVariables" => {
                    self.around(child, "set of the rule");
                    rule.set = self.adds(child, "set");
                }
                "action" => rule.action = settings,
                _ => self.unknown(child),
            }
        }
        rule
    }

    /// The elements of this name; others are unknown.
    fn adds(&mut self, element: &Element, name: &str) -> Vec<Settings> {
        let mut found = Vec::new();
        for child in &element.children {
            if child.name == name {
                found.push(self.settings(child));
            } else {
                self.unknown(child);
            }
        }
        found
    }

    fn maps(&mut self, element: &Element, scope: &Scope) {
        self.around(element, "[site.maps]");
        for child in &element.children {
            if child.name == "rewriteMap" {
                let (own, entries) = (self.settings(child), self.adds(child, "add"));
                self.model.maps.push(RewriteMap { scope: scope.clone(), own, entries });
            } else {
                self.unknown(child);
            }
        }
    }

    fn outbound(&mut self, element: &Element, scope: &Scope) {
        self.ledger.settle(element.id, Became::unneeded("the element around outbound rules"));
        let why = "a condition of outbound rules, of which those with one are not carried over";
        for child in &element.children {
            if child.name != "rule" {
                self.ledger.settle_all(child, &Became::unneeded(why));
                continue;
            }
            let child_of = |name: &'static str| child.named(name).next();
            let settings = |element: Option<&Element>| element.map(|e| self.settings(e)).unwrap_or_default();
            let own = self.settings(child);
            let conditional = child_of("conditions").is_some_and(|c| !c.children.is_empty())
                || !own.text_or("preCondition", "").is_empty();
            let (matching, action) = (settings(child_of("match")), settings(child_of("action")));
            let mut all = Vec::new();
            numbers(child, &mut all);
            self.model.outbound.push(Outbound {
                scope: scope.clone(),
                own,
                matching,
                conditional,
                action,
                all,
            });
        }
    }
}

fn numbers(element: &Element, all: &mut Vec<usize>) {
    all.push(element.id);
    all.extend(element.attributes.iter().map(|attribute| attribute.id));
    all.extend(element.texts.iter().map(|(id, _)| *id));
    element.children.iter().for_each(|child| numbers(child, all));
}

fn known(list: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    list.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// Sections that publish nothing.
const SECTIONS: [(&str, &str); 8] = [
    ("configSections", "tells IIS which sections there are"),
    ("configProtectedData", "where IIS keeps the keys of encrypted values; no encrypted value is read"),
    ("configPaths", "where IIS looks for configuration"),
    ("configurationRedirection", "IIS Shared Configuration; every node here holds the whole configuration"),
    ("system.ftpServer", "FTP is not published"),
    ("moduleProviders", "of the user interface of IIS"),
    ("system.net", "of programs in IIS"),
    ("system.web", "of programs in IIS"),
];

/// Sections of `system.applicationHost` beside its sites.
const APPLICATION_HOST: [(&str, &str); 6] = [
    ("applicationPools", "processes of IIS; the proxy has one of its own"),
    ("customMetadata", "of IIS's compatibility with its predecessors"),
    ("listenerAdapters", "of IIS's activation of processes"),
    ("log", "where IIS logs; see access_log of node.toml"),
    ("serviceAutoStartProviders", "of programs in IIS"),
    ("webLimits", "limits of IIS's connections; see [limits]"),
];

/// Sections of `system.webServer` that are about IIS's own content and processes.
const WEB_SERVER: [(&str, &str); 30] = [
    ("applicationInitialization", OWN),
    ("asp", OWN),
    ("caching", "IIS's cache; answers of servers are never cached here, as Exchange needs it"),
    ("cgi", OWN),
    ("defaultDocument", OWN),
    ("directoryBrowse", OWN),
    ("diskCache", "ARR's cache on disk; answers of servers are never cached here"),
    ("fastCgi", OWN),
    ("globalModules", OWN),
    ("handlers", OWN),
    ("httpCompression", "answers are passed on as servers compressed them"),
    ("httpErrors", "pages of IIS's own errors"),
    ("httpLogging", "see [log]"),
    ("httpPlatform", OWN),
    ("httpTracing", "see rollcall explain"),
    ("isapiFilters", OWN),
    ("management", "of the user interface of IIS"),
    ("media", OWN),
    ("modules", OWN),
    ("odbcLogging", "see [log]"),
    ("serverRuntime", "limits of IIS's processes; see [limits]"),
    ("serverSideInclude", OWN),
    ("staticContent", OWN),
    ("tracing", "see rollcall explain"),
    ("urlCompression", "answers are passed on as servers compressed them"),
    ("validation", OWN),
    ("wdeploy", OWN),
    ("webdav", OWN),
    ("webSocket", "WebSocket passes through the proxy"),
    ("aspNetCore", OWN),
];

const OWN: &str = "IIS's own content and modules, which do not get requests that farms answer";
