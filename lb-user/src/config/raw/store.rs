//! `[config]` as it is written.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::nowhere;
use crate::config::spanned::Spanned;

/// `[config]`: where generations are kept beside the nodes' own disks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreTable {
    /// `"nodes"` (default: on the nodes alone) or `"etcd"` (also in an etcd of yours, version 3.4 or later). For nodes that share their
    /// configuration.
    #[schemars(extend("enum" = ["nodes", "etcd"]))]
    pub(crate) store: Spanned<String>,
    /// With `"etcd"`: its members, such as `["https://10.0.0.11:2379"]`, by IPv4 address, one to eight; the first that answers is used.
    pub(crate) endpoints: Vec<Spanned<String>>,
    /// With `"etcd"`: what its keys begin with, such as `"/rollcall/dmz"`. Default `"/rollcall"`. Each cluster needs one of its own.
    pub(crate) prefix: Option<Spanned<String>>,
    /// With `"etcd"`: the CA of the members' certificates, a PEM file. Required where an endpoint begins with `https`. The certificates
    /// must be for the IP addresses.
    pub(crate) ca: Option<Spanned<PathBuf>>,
    /// With `"etcd"`: the certificate that the nodes present, a PEM file. Default: none. The members' own need the use `clientAuth` then,
    /// too.
    pub(crate) certificate: Option<Spanned<PathBuf>>,
    /// With `certificate`: its key, a PEM file.
    pub(crate) key: Option<Spanned<PathBuf>>,
    /// With `"etcd"`: the user of the nodes, whose role may read and write all below `prefix` and a `/`. Default: none. Not taken from a
    /// certificate's name.
    pub(crate) user: Option<Spanned<String>>,
    /// With `user`: the file whose first line is its password.
    pub(crate) password_file: Option<Spanned<PathBuf>>,
}

impl Default for StoreTable {
    fn default() -> Self {
        Self {
            store: nowhere("nodes".to_owned()),
            endpoints: Vec::new(),
            prefix: None,
            ca: None,
            certificate: None,
            key: None,
            user: None,
            password_file: None,
        }
    }
}
