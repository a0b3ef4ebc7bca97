//! A request on its way through the rules: what they have made of it so far. Pure.

use std::collections::BTreeMap;

use super::super::rule::Rule;
use super::super::template::Variable;
use super::super::url::{Farm, Url};
use super::filling::{self, Filling};
use super::{Continue, Outcome, Refusal, Tell, Variables, Verdict};

/// A request on its way.
pub(super) struct Passage<'a> {
    request: &'a dyn Variables,
    pub(super) url: Url,
    changed: bool,
    farm: Option<Farm>,
    headers: BTreeMap<String, String>,
    rules: Vec<String>,
}

/// What a rule does once it matches.
pub(super) struct Performance {
    pub(super) headers: Vec<(String, String)>,
    pub(super) action: Performed,
}

pub(super) enum Performed {
    Nothing,
    Rewrite(Url, Option<Farm>),
    End(Outcome),
}

impl<'a> Passage<'a> {
    pub(super) fn new(request: &'a dyn Variables) -> Self {
        Self {
            request,
            url: Url::new(request.target(), request.path().clone()),
            changed: false,
            farm: None,
            headers: BTreeMap::new(),
            rules: Vec::new(),
        }
    }

    pub(super) fn result(self) -> Outcome {
        let url = self.changed.then_some(self.url);
        Outcome::Continue(Continue { url, farm: self.farm, headers: self.headers, rules: self.rules })
    }

    /// Tries one rule: what it does if it matches.
    pub(super) fn attempt(&self, rule: &Rule, tell: &mut Tell<'_>) -> Result<Option<Performance>, Refusal> {
        if !rule.enabled {
            tell(rule, &|| Verdict::Disabled);
            return Ok(None);
        }
        let input = self.url.path.as_str();
        let input = input.strip_prefix('/').unwrap_or(input);
        let Some(captures) = filling::find(&rule.url, input)? else {
            tell(rule, &|| Verdict::PathDiffers { input: input.to_owned() });
            return Ok(None);
        };
        let mut filling = Filling::new(self, captures);
        if let Some((condition, input)) = filling.failing(rule)? {
            tell(rule, &|| Verdict::ConditionFails { condition, input: input.clone() });
            return Ok(None);
        }
        filling.perform(rule).map(Some)
    }

    /// Takes over what a rule did; `Some` if that is the end.
    pub(super) fn take(
        &mut self,
        rule: &Rule,
        performance: Performance,
        tell: &mut Tell<'_>,
    ) -> Option<Outcome> {
        self.headers.extend(performance.headers);
        self.rules.push(rule.name.clone());
        let end = match performance.action {
            Performed::Nothing => None,
            Performed::Rewrite(url, farm) => {
                self.url = url;
                self.changed = true;
                self.farm = farm.or(self.farm.take());
                None
            }
            Performed::End(outcome) => Some(outcome),
        };
        tell(rule, &|| Verdict::Performed { target: self.url.target() });
        end
    }

    pub(super) fn variable(&self, variable: &Variable) -> String {
        let request = self.request;
        let host = || self.header("host").unwrap_or_default();
        match variable {
            Variable::Header(name) => self.header(name).unwrap_or_default(),
            Variable::Https => if request.is_tls() { "ON" } else { "OFF" }.to_owned(),
            Variable::ServerPort => request.port().to_string(),
            Variable::ServerPortSecure => u8::from(request.is_tls()).to_string(),
            Variable::ServerName => without_port(&host()).to_owned(),
            Variable::RemoteAddr => request.client().to_string(),
            Variable::RequestMethod => request.method().to_owned(),
            Variable::QueryString => self.url.query.clone().unwrap_or_default(),
            Variable::RequestUri => self.url.target(),
            Variable::Url => self.url.path.as_str().to_owned(),
            Variable::CacheUrl => {
                let scheme = if request.is_tls() { "https" } else { "http" };
                format!("{scheme}://{}:{}{}", without_port(&host()), request.port(), self.url.target())
            }
            Variable::UnencodedUrl => request.target().to_owned(),
            Variable::OriginalUrl => match request.target().split_once('?') {
                Some((_, query)) => format!("{}?{query}", request.path().as_str()),
                None => request.path().as_str().to_owned(),
            },
        }
    }

    /// A field as the rules so far have left it.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned().or_else(|| self.request.header(name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}
