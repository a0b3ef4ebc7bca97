//! agent -> child -> etcd: generations and records in an etcd that the operator has anyway, as one more place that holds them.
//!
//! Which generation is in force is a function of the set of them, so etcd decides nothing: whatever comes from it is checked as what
//! another node sends. It is spoken to by `rollcall store`, a child under the user of `rollcall peer` and as locked in; it may
//! connect to the members' ports alone, and has of secrets the nodes' account at etcd, and none of the cluster's.
//!
//! - [`key`]: what is kept under which key, and in how many parts; pure;
//! - [`json`]: etcd's JSON gateway, as bytes; pure;
//! - [`request`]: what the agent asks and is answered, as bytes; pure;
//! - [`channel`]: the frames that these go in; pure;
//! - [`tls`], [`session`]: a connection to a member, and a question over it;
//! - [`watch`]: hears that something changed; what, is asked;
//! - [`work`]: what the agent asks, as questions to etcd;
//! - [`worker`]: the child; [`supervisor`]: the agent's side of it.
//!
//! What there is to fetch and to put is for `shared::exchange` to say, and `agent/shared/external.rs` does it.

pub mod channel;
pub mod json;
pub mod key;
pub mod request;
pub mod session;
pub mod supervisor;
pub mod tls;
pub mod watch;
pub mod work;
pub mod worker;

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::first_line;
use crate::config::model::{Config, Endpoint};

/// Where that etcd is, and who the nodes are there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Its members.
    pub endpoints: Vec<Endpoint>,
    /// What keys begin with, without the `/` that follows.
    pub prefix: String,
    /// The CA of the members, PEM; empty: none speaks TLS.
    pub ca: String,
    /// Certificate and key that the nodes present, PEM.
    pub identity: Option<(String, String)>,
    /// The nodes' user and its password.
    pub user: Option<(String, String)>,
}

impl Settings {
    /// What a configuration says, with the files that it names; `None`: generations are kept on the nodes alone.
    pub fn of(config: &Config) -> io::Result<Option<Self>> {
        let Some(etcd) = &config.cluster.store else { return Ok(None) };
        let read = |path: &PathBuf| config.files.read(path);
        let text = |path: &PathBuf| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let identity = etcd.identity.as_ref();
        let identity =
            identity.map(|(certificate, key)| Ok::<_, io::Error>((text(certificate)?, text(key)?)));
        let user = etcd.user.as_ref();
        let user =
            user.map(|(user, password)| Ok::<_, io::Error>((user.clone(), first_line(&read(password)?))));
        Ok(Some(Self {
            endpoints: etcd.endpoints.clone(),
            prefix: etcd.prefix.clone(),
            ca: etcd.ca.as_ref().map(text).transpose()?.unwrap_or_default(),
            identity: identity.transpose()?,
            user: user.transpose()?,
        }))
    }
}

impl fmt::Debug for Settings {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(user, _)| user);
        let Self { endpoints, prefix, .. } = self;
        write!(f, "Settings({endpoints:?}, {prefix:?}, {user:?}, ..)")
    }
}
