//! `[config]`.

use super::{list, quoted};
use crate::config::model::Etcd;

/// The table.
pub(super) fn table(store: Option<&Etcd>) -> String {
    let Some(Etcd { endpoints, prefix, ca, identity, user }) = store else {
        return "[config]\nstore = \"nodes\"\n\n".to_owned();
    };
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let path = |name: &str, path: &std::path::Path| format!("{name} = {}\n", quoted(&path.to_string_lossy()));
    let ca = ca.as_ref().map(|ca| path("ca", ca)).unwrap_or_default();
    let identity =
        identity.as_ref().map(|(certificate, key)| path("certificate", certificate) + &path("key", key));
    let user = user
        .as_ref()
        .map(|(user, password)| format!("user = {}\n{}", quoted(user), path("password_file", password)));
    format!(
        "[config]\nstore = \"etcd\"\nendpoints = {}\nprefix = {}\n{ca}{}{}\n",
        list(&endpoints),
        quoted(prefix),
        identity.unwrap_or_default(),
        user.unwrap_or_default(),
    )
}
