//! What a server's configuration says of publishing: farms, rules, maps, sites, proxy. Pure. Values are as they were written, each with its
//! number in the ledger; what they mean here is for `map`.

use std::collections::BTreeMap;

use super::xml::Element;

/// All of it. Sections that have nothing to do with publishing are not here.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// `webFarms/webFarm`.
    pub farms: Vec<Farm>,
    /// `rewrite/globalRules/rule`, then `rewrite/rules/rule` of each scope; the order of evaluation.
    pub rules: Vec<Rule>,
    /// `rewrite/rewriteMaps/rewriteMap`.
    pub maps: Vec<RewriteMap>,
    /// `rewrite/outboundRules/rule`.
    pub outbound: Vec<Outbound>,
    /// `system.applicationHost/sites/site`.
    pub sites: Vec<Site>,
    /// `system.webServer/proxy` and the `cache` in it.
    pub proxy: Vec<Settings>,
    /// `httpProtocol/customHeaders/add`.
    pub headers: Vec<Scoped<Settings>>,
}

/// Where a setting of `system.webServer` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Server,
    /// In a site: its name in IIS.
    Site(String),
    /// In a folder of a site.
    Folder(String),
}

impl Scope {
    /// Of `<location path="..">`.
    pub fn of(path: &str) -> Self {
        let path = path.trim_matches('/');
        match path {
            "" | "." => Self::Server,
            site if !site.contains('/') => Self::Site(site.to_owned()),
            folder => Self::Folder(folder.to_owned()),
        }
    }
}

/// Something that holds somewhere.
#[derive(Clone, Debug)]
pub struct Scoped<T> {
    /// Where.
    pub scope: Scope,
    /// What.
    pub said: T,
}

/// A value and its number in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// As it was written.
    pub value: String,
    /// Of the attribute.
    pub id: usize,
}

/// The attributes of an element.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The element's number in the ledger.
    pub id: usize,
    /// The element's name.
    pub element: String,
    /// By name. Those that cannot be read are not here.
    pub values: BTreeMap<String, Said>,
    /// Whether there are some that cannot be read.
    pub sealed: bool,
}

impl Settings {
    /// Of an element; `readable` says of a number in the ledger whether that value can be read.
    pub fn of(element: &Element, readable: impl Fn(usize) -> bool) -> Self {
        let values = element.attributes.iter().filter(|attribute| readable(attribute.id)).map(|attribute| {
            (attribute.name.clone(), Said { value: attribute.value.clone(), id: attribute.id })
        });
        let values: BTreeMap<_, _> = values.collect();
        let sealed = values.len() < element.attributes.len();
        Self { id: element.id, element: element.name.clone(), values, sealed }
    }

    /// What an attribute says.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|said| said.value.as_str())
    }

    /// What an attribute says, or `default`.
    pub fn text_or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.text(name).unwrap_or(default)
    }

    /// A boolean of IIS's schema; `default` where it is not given or is none.
    pub fn is(&self, name: &str, default: bool) -> bool {
        self.text(name).and_then(boolean).unwrap_or(default)
    }

    /// The number of an attribute in the ledger, or the element's.
    pub fn id_of(&self, name: &str) -> usize {
        self.values.get(name).map_or(self.id, |said| said.id)
    }
}

/// `true`, `false`, in either case, as IIS's schema has booleans.
pub fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A farm: servers, and how requests get to them.
#[derive(Clone, Debug, Default)]
pub struct Farm {
    /// `webFarm`.
    pub own: Settings,
    /// Its servers.
    pub servers: Vec<Server>,
    /// `applicationRequestRouting/protocol` and the `cache` in it.
    pub protocol: Settings,
    /// See `protocol`.
    pub cache: Option<Settings>,
    /// `applicationRequestRouting/healthCheck`.
    pub health: Settings,
    /// `applicationRequestRouting/affinity`.
    pub affinity: Settings,
    /// `applicationRequestRouting/loadBalancing`.
    pub balancing: Settings,
}

impl Farm {
    /// Its name.
    pub fn name(&self) -> &str {
        self.own.text_or("name", "")
    }
}

/// A server of a farm.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// `server`.
    pub own: Settings,
    /// `applicationRequestRouting` in it.
    pub routing: Settings,
}

/// A rewrite rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it holds; `Server` for `globalRules`.
    pub scope: Scope,
    /// `rule`.
    pub own: Settings,
    /// `match`.
    pub matching: Settings,
    /// `conditions`.
    pub conditions: Settings,
    /// `conditions/add`.
    pub list: Vec<Settings>,
    /// `serverVariables/set`.
    pub set: Vec<Settings>,
    /// `action`.
    pub action: Settings,
}

/// A rewrite map.
#[derive(Clone, Debug)]
pub struct RewriteMap {
    /// Where it is known.
    pub scope: Scope,
    /// `rewriteMap`.
    pub own: Settings,
    /// `add`.
    pub entries: Vec<Settings>,
}

/// An outbound rule.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Where it holds.
    pub scope: Scope,
    /// `rule`.
    pub own: Settings,
    /// `match`.
    pub matching: Settings,
    /// Whether it has conditions.
    pub conditional: bool,
    /// `action`.
    pub action: Settings,
    /// The numbers of all that is in it.
    pub all: Vec<usize>,
}

/// A site of IIS.
#[derive(Clone, Debug)]
pub struct Site {
    /// `site`.
    pub own: Settings,
    /// `bindings/binding`.
    pub bindings: Vec<Settings>,
}
