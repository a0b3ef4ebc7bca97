//! A site's certificate, replaced on all nodes: a change like any other, whose text is that of the generation in force.

use std::path::{Path, PathBuf};

use super::nodes::Network;
use super::state::Words;
use super::{Applier, How, Refused, SharedConfig};
use crate::config;
use crate::config::model::Files;
use crate::control::api::CertificateSet;
use crate::shared::certificate::{NewFiles, Replacement, replaced};
use crate::shared::draft::Draft;
use crate::wall::WallTime;

/// What an operator wants replaced, and by what.
pub(super) struct Wanted {
    pub(super) site: String,
    pub(super) certificate: PathBuf,
    pub(super) key: Option<PathBuf>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ocsp: Option<PathBuf>,
    pub(super) comment: String,
    pub(super) how: How,
}

impl<A: Applier, N: Network> SharedConfig<A, N> {
    /// Replaces a site's certificate.
    pub(super) async fn set_certificate(&self, wanted: Wanted) -> Result<CertificateSet, Refused> {
        let _turn = self.turn.try_lock().map_err(|_| Refused::Busy)?;
        let files = tokio::task::block_in_place(|| wanted.read())?;
        let Wanted { site, comment, how, .. } = wanted;
        let (before, text) = {
            let state = self.state.lock().await;
            let before = state.in_force()?;
            let text = state.generation(before.id)?.content.text;
            (before, text)
        };
        let replaced = tokio::task::block_in_place(|| {
            replaced(&before.config.cluster, &before.secrets, &site, &files, WallTime::now())
        });
        let Replacement { old, new, secrets, remarks } = replaced?;
        let applied = if secrets == before.secrets {
            None
        } else {
            let comment = if comment.is_empty() { format!("new certificate of {site}") } else { comment };
            let draft = Draft { text, secrets, kept: Vec::new() };
            Some(self.bring_in(&before, draft, Words { comment, restores: None }, how).await?.applied)
        };
        Ok(CertificateSet { old, new, remarks, applied })
    }
}

impl Wanted {
    fn read(&self) -> Result<NewFiles, Refused> {
        let whole = |path: &Path| -> Result<(PathBuf, Vec<u8>), Refused> {
            let bytes = Files::Disk.read(path);
            let bytes = bytes.map_err(|source| Refused::File { path: path.to_owned(), source })?;
            Ok((path.to_owned(), bytes))
        };
        let password = self.password_file.as_deref().map(whole).transpose()?;
        Ok(NewFiles {
            certificate: whole(&self.certificate)?,
            key: self.key.as_deref().map(whole).transpose()?,
            password: password.map(|(_, bytes)| config::first_line(&bytes)).unwrap_or_default(),
            ocsp: self.ocsp.as_deref().map(whole).transpose()?.map(|(_, bytes)| bytes),
        })
    }
}
