//! `[[trusted_proxy]]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::spanned::Spanned;

/// `[[trusted_proxy]]`: proxies in front of this one that may say whom they speak for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustedProxyTable {
    /// Where they are, such as `["192.168.50.20"]`. Whoever else is there is believed, too.
    pub(crate) networks: Spanned<Vec<Spanned<String>>>,
    /// Where they say whom they speak for: `"x-forwarded-for"` (default), `"forwarded"` (RFC 7239), or `"proxy-protocol"`, with whose header
    /// each of their connections then has to begin.
    #[schemars(extend("enum" = ["x-forwarded-for", "forwarded", "proxy-protocol"]))]
    pub(crate) client_address: Option<Spanned<String>>,
    /// `true`: no connection of theirs ever carries the requests of two clients. Default `false`: then each request has its own connection
    /// to a server, and NTLM and Kerberos are not possible.
    #[serde(default)]
    pub(crate) one_client_per_connection: bool,
}
