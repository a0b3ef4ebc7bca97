//! A folder of certificates and keys: which files belong together, and what they are for.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::read;
use crate::config::split_hint;
use crate::iis::map::Certificate;
use crate::proxy::tls::material::{File, LONGEST_FILE, Material, MaterialError};

/// What is in a folder.
#[derive(Default)]
pub(super) struct Found {
    pub(super) certificates: Vec<Certificate>,
    /// Files that could not be used, and why.
    pub(super) remarks: Vec<String>,
}

/// The certificates in `folder`; PKCS#12 files have the password in the first line of `password_file`.
pub(super) fn find(folder: &Path, password_file: Option<&Path>) -> anyhow::Result<Found> {
    let folder = fs::canonicalize(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let password_file = password_file
        .map(|path| fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display())))
        .transpose()?;
    let password = match &password_file {
        Some(path) => first_line(&read(path, LONGEST_FILE)?),
        None => String::new(),
    };
    let files = files(&folder, password_file.as_deref())?;
    let mut found = Found::default();
    let (mut alone, mut keys) = (Vec::new(), Vec::new());
    for (path, bytes) in &files {
        let name = path.display().to_string();
        match Material::read(&[File { name: &name, bytes }], &password) {
            Ok(material) => {
                let password_file = password_file.as_deref().filter(|_| is_pkcs12(path));
                found.certificates.push(certificate(path, None, password_file, &material));
            }
            Err(MaterialError::NoKey) => alone.push((path, bytes)),
            Err(MaterialError::NoCertificate) => keys.push((path, bytes)),
            Err(error) => {
                let error = error.to_string();
                let (what, hint) = split_hint(&error);
                let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                found.remarks.push(format!("{name} is not used: {what}{hint}"));
            }
        }
    }
    for (path, bytes) in alone {
        let names = path.display().to_string();
        let pair = keys.iter().find_map(|(key, key_bytes)| {
            let key_name = key.display().to_string();
            let both = [File { name: &names, bytes }, File { name: &key_name, bytes: key_bytes }];
            Some((key, Material::read(&both, &password).ok()?))
        });
        match pair {
            Some((key, material)) => found.certificates.push(certificate(path, Some(key), None, &material)),
            None => found
                .remarks
                .push(format!("{names} is not used: its private key is in no file of the folder")),
        }
    }
    found.certificates.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn files(folder: &Path, password_file: Option<&Path>) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let listed = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.is_file() && Some(path.as_path()) != password_file);
    paths.sort();
    anyhow::ensure!(
        paths.len() <= MOST_FILES,
        "more than {MOST_FILES} files in {}; hint: a folder with the sites' certificates alone",
        folder.display()
    );
    paths.into_iter().map(|path| Ok((path.clone(), read(&path, LONGEST_FILE)?))).collect()
}

fn certificate(
    path: &Path,
    key: Option<&PathBuf>,
    password_file: Option<&Path>,
    material: &Material,
) -> Certificate {
    let thumbprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, &material.chain()[0]);
    Certificate {
        path: path.display().to_string(),
        key: key.map(|key| key.display().to_string()),
        password_file: password_file.map(|path| path.display().to_string()),
        names: material.facts().names,
        thumbprint: thumbprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn is_pkcs12(path: &Path) -> bool {
    path.extension().is_some_and(|name| name.eq_ignore_ascii_case("pfx") || name.eq_ignore_ascii_case("p12"))
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

/// Each certificate without a key is tried with each key.
const MOST_FILES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_find_their_keys_and_have_windows_thumbprints() {
        let folder = std::env::temp_dir().join(format!("rollcall-import-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let signed = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (mail, other) = (signed("mail.example.test"), signed("www.example.test"));
        fs::write(folder.join("mail.crt"), mail.cert.pem()).unwrap();
        fs::write(folder.join("z.key"), mail.signing_key.serialize_pem()).unwrap();
        fs::write(folder.join("www.pem"), other.cert.pem() + &other.signing_key.serialize_pem()).unwrap();
        fs::write(folder.join("lost.crt"), signed("lost.example.test").cert.pem()).unwrap();

        let found = find(&folder, None).unwrap();

        let told: Vec<_> =
            found.certificates.iter().map(|one| (one.names.clone(), one.key.is_some())).collect();
        assert_eq!(
            told,
            [(vec!["mail.example.test".to_owned()], true), (vec!["www.example.test".to_owned()], false)]
        );
        assert_eq!(found.certificates[0].thumbprint.len(), 40);
        assert!(found.remarks.len() == 1 && found.remarks[0].contains("lost.crt"), "{:?}", found.remarks);
        fs::remove_dir_all(&folder).unwrap();
    }
}
