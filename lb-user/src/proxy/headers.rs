//! Header fields that a site or a route changes: which may be, compiled once, and filled in for each request. Pure.
//!
//! What frames a message, or belongs to a connection, is the proxy's own (RFC 9110, 7.6.1), and so is what it says of the client: a
//! server that believes a field must be able to. So fields of that kind can be set only where no word of the client's gets into
//! them by it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;

use thiserror::Error;

use super::edits::Edits;
use super::http1::{Known, is_token};
use super::rewrite::apply::{Blank, Refusal, Variables};
use super::rewrite::rule::{Place, RuleSet, Use};
use super::rewrite::spec::Maps;
use super::rewrite::template::{Template, TemplateError};
use crate::config::model::FieldEdits;

/// Whose fields are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests', on their way to a server.
    Request,
    /// Responses', on their way to the client.
    Response,
}

/// The changes of one side, ready to be made.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Fields that do not cross, in lower case.
    gone: Vec<String>,
    /// Fields that are written, and their values.
    said: Vec<(String, Value)>,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Template(Template),
}

impl Changes {
    /// Of a route: its own, and the site's of other names.
    pub fn compile(
        side: Side,
        site: &FieldEdits,
        route: &FieldEdits,
        maps: &Maps,
    ) -> Result<Self, HeaderError> {
        let mut changes = Self::default();
        changes.take(side, site, maps)?;
        if *route != FieldEdits::default() {
            let FieldEdits { set, add, remove } = route;
            let named = |name: &str| {
                let is = |own: &String| own.eq_ignore_ascii_case(name);
                set.keys().chain(add.keys()).chain(remove).any(is)
            };
            changes.gone.retain(|name| !named(name));
            changes.said.retain(|(name, _)| !named(name));
            changes.take(side, route, maps)?;
        }
        Ok(changes)
    }

    fn take(&mut self, side: Side, edits: &FieldEdits, maps: &Maps) -> Result<(), HeaderError> {
        let FieldEdits { set, add, remove } = edits;
        for name in remove {
            check_name(side, name, true)?;
        }
        self.gone.extend(set.keys().chain(remove).map(|name| name.to_ascii_lowercase()));
        for (name, text) in set.iter().chain(add) {
            self.said.push((name.clone(), compiled(side, name, text, maps)?));
        }
        Ok(())
    }

    /// The changes for a request, on top of what rules have set of its fields (lower-case name to value).
    pub fn fill<'a>(
        &'a self,
        request: &dyn Variables,
        set_by_rules: BTreeMap<String, String>,
    ) -> Result<Edits<'a>, Refusal> {
        let mut edits = Edits::default();
        for (name, value) in set_by_rules.into_iter().filter(|(name, _)| !self.gone.contains(name)) {
            edits.remove(name.clone());
            edits.write(name, value);
        }
        let mut blank = None;
        self.write(edits, |template| {
            blank.get_or_insert_with(|| Blank::new(request)).field(template).map(Some)
        })
    }

    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.gone.is_empty() && self.said.is_empty()
    }

    /// The changes without those that need what this request does not have; `None`: one whose path has no normal form.
    pub fn fill_what_can_be(&self, request: Option<&dyn Variables>) -> Edits<'_> {
        let mut blank = None;
        let filled = self.write(Edits::default(), |template| {
            let blank = request.map(|request| blank.get_or_insert_with(|| Blank::new(request)));
            Ok::<_, Infallible>(blank.and_then(|blank| blank.field(template).ok()))
        });
        let Ok(edits) = filled;
        edits
    }

    /// Adds the changes to `edits`, templates as `fill` does it; what it has no value for is left out.
    fn write<'a, E>(
        &'a self,
        mut edits: Edits<'a>,
        mut fill: impl FnMut(&Template) -> Result<Option<String>, E>,
    ) -> Result<Edits<'a>, E> {
        self.gone.iter().for_each(|name| edits.remove(name.as_str()));
        for (name, value) in &self.said {
            let value = match value {
                Value::Text(text) => Some(Cow::Borrowed(text.as_str())),
                Value::Template(template) => fill(template)?.map(Cow::Owned),
            };
            if let Some(value) = value {
                edits.write(name.as_str(), value);
            }
        }
        Ok(edits)
    }
}

/// Whether a field of this name can be changed on that side.
pub fn check_name(side: Side, name: &str, removed: bool) -> Result<(), HeaderError> {
    let (known, name_of) = (Known::of(name.as_bytes()), || name.to_owned());
    if !is_token(name.as_bytes()) || name.len() > LONGEST_NAME {
        return Err(HeaderError::Name(name_of()));
    }
    match (known, side) {
        (Known::Alias, _) => Err(HeaderError::Underscore(name_of())),
        (
            Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::Expect,
            _,
        ) => Err(HeaderError::Framing(name_of())),
        (Known::Host, _) => Err(HeaderError::Host),
        (Known::RequestId, _) => Err(HeaderError::Own(name_of())),
        (Known::ProxySays, Side::Request) if removed => Err(HeaderError::Gone(name_of())),
        (Known::ProxySays, Side::Request) => check_said_by_proxies(name),
        (Known::StrictTransportSecurity, Side::Response) => Err(HeaderError::Hsts),
        (Known::Location, Side::Response) => Err(HeaderError::Location),
        (
            Known::ProxySays
            | Known::Authorization
            | Known::WwwAuthenticate
            | Known::PersistentAuth
            | Known::Cookie
            | Known::SetCookie
            | Known::Location
            | Known::UserAgent
            | Known::Referer
            | Known::StrictTransportSecurity
            | Known::DisableAffinity
            | Known::Other,
            _,
        ) => Ok(()),
    }
}

/// Whether rules believe nothing that anybody may write, and let no word of a client's come out as the proxy's.
pub fn check_rules(rules: &RuleSet) -> Result<(), RuleFieldError> {
    for Use { rule, place, sets, reads } in rules.uses() {
        check_use(sets, &reads).map_err(|cause| RuleFieldError {
            rule: rule.to_owned(),
            place,
            cause: Box::new(cause),
        })?;
    }
    Ok(())
}

fn check_use(sets: Option<&str>, reads: &[&str]) -> Result<(), HeaderError> {
    if let Some(field) = reads.iter().find(|field| !Known::of(field.as_bytes()).crosses()) {
        return Err(HeaderError::Removed((*field).to_owned()));
    }
    let Some(name) = sets else { return Ok(()) };
    let known = Known::of(name.as_bytes());
    if known == Known::RequestId {
        return Err(HeaderError::Own(name.to_owned()));
    }
    if known == Known::ProxySays {
        check_said_by_proxies(name)?;
    }
    check_believed(Side::Request, name, reads)
}

/// Whether nothing that is not to be believed gets into the field.
fn check_believed(side: Side, name: &str, reads: &[&str]) -> Result<(), HeaderError> {
    let of_proxies = side == Side::Request && Known::of(name.as_bytes()) == Known::ProxySays;
    for variable in reads {
        let known = Known::of(variable.as_bytes());
        if !known.crosses() || of_proxies && known != Known::Host {
            let (field, variable) = (name.to_owned(), (*variable).to_owned());
            return Err(HeaderError::Unbelieved { field, variable });
        }
    }
    Ok(())
}

fn check_said_by_proxies(name: &str) -> Result<(), HeaderError> {
    let among = |names: &[&str]| names.iter().any(|other| name.eq_ignore_ascii_case(other));
    if among(&["x-forwarded-for", "x-forwarded-proto"]) {
        Err(HeaderError::Own(name.to_owned()))
    } else if among(&["x-commonaccesstoken", "x-isfromcafe", "x-beresource", "x-anonresource-backend"]) {
        Err(HeaderError::Internal(name.to_owned()))
    } else {
        Ok(())
    }
}

/// Whether a field can be given this value on that side.
pub fn check_value(side: Side, name: &str, text: &str, maps: &Maps) -> Result<(), HeaderError> {
    compiled(side, name, text, maps).map(drop)
}

fn compiled(side: Side, name: &str, text: &str, maps: &Maps) -> Result<Value, HeaderError> {
    check_name(side, name, false)?;
    let field = || name.to_owned();
    if text.len() > LONGEST_VALUE || text.contains(char::is_control) {
        return Err(HeaderError::Value(field()));
    }
    let template =
        Template::compile(text, maps).map_err(|source| HeaderError::Template { field: field(), source })?;
    if template.highest_rule().is_some() || template.highest_condition().is_some() {
        return Err(HeaderError::Reference(field()));
    }
    check_believed(side, name, &template.fields())?;
    Ok(template.into_text().map_or_else(Value::Template, Value::Text))
}

/// Why a rule cannot deal with a field so. It is the configuration's fault.
#[derive(Debug, Error)]
#[error("rule {rule:?}, {place}: {cause}")]
pub struct RuleFieldError {
    /// The rule's name.
    pub rule: String,
    /// Which part of it.
    pub place: Place,
    /// What is wrong there.
    pub cause: Box<HeaderError>,
}

/// Why a field cannot be changed so. It is the configuration's fault.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// It is removed from clients: whatever it says, anybody can.
    #[error(
        "{0} is removed from what clients send, who could write anything there; hint: {{REMOTE_ADDR}} is the client's address, also behind a proxy that is trusted"
    )]
    Removed(String),
    /// It is none.
    #[error("\"{0}\" is not the name of a header field; hint: letters, digits and dashes, such as X-Site")]
    Name(String),
    /// IIS takes `X_A` and `X-A` for the same field.
    #[error("{0} cannot be changed: servers may take it for the field with - in place of _; hint: write -")]
    Underscore(String),
    /// It says how a message is framed, or belongs to a connection.
    #[error(
        "{0} cannot be changed: it frames the message, or belongs to one connection alone; hint: remove it"
    )]
    Framing(String),
    /// The name that is asked for.
    #[error("Host cannot be changed here; hint: a rule can set HTTP_HOST")]
    Host,
    /// The proxy writes it.
    #[error(
        "{0} cannot be changed: the proxy itself writes it, so that servers can believe it; hint: remove it"
    )]
    Own(String),
    /// Only Exchange's front end writes it to its back end.
    #[error("{0} cannot be changed: by it Exchange's front end tells its back end who asks; hint: remove it")]
    Internal(String),
    /// No client's gets through.
    #[error("no client's {0} reaches a server; hint: remove it")]
    Gone(String),
    /// A site has one word on it.
    #[error("Strict-Transport-Security cannot be changed here; hint: hsts = \"365d\"")]
    Hsts,
    /// It is rewritten, or not.
    #[error("Location cannot be changed here; hint: rewrite_location = true")]
    Location,
    /// It cannot be written.
    #[error("{0} cannot have this value: it is too long or has control characters; hint: up to 4096 bytes")]
    Value(String),
    /// It is no template.
    #[error("{field} cannot have this value: {source}")]
    Template {
        /// The field.
        field: String,
        /// Why not.
        source: TemplateError,
    },
    /// Nothing is captured here.
    #[error("{0} cannot have a back reference: nothing is captured here; hint: a rule can set header fields")]
    Reference(String),
    /// It would let a client say what only a proxy may.
    #[error(
        "{field} would say what the client wrote in {variable}, which is not to be believed; hint: {{REMOTE_ADDR}} is the client's address"
    )]
    Unbelieved {
        /// The field.
        field: String,
        /// What the client wrote.
        variable: String,
    },
}

/// Bytes of a field's name.
const LONGEST_NAME: usize = 128;

/// Bytes of a field's value, before it is filled in.
const LONGEST_VALUE: usize = 4096;

#[cfg(test)]
mod tests;
