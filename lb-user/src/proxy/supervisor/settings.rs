//! config -> what the proxy is to serve, with the certificates and keys read from their files.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::error::SupervisorError;
use crate::config::model;
use crate::proxy::snapshot::{self, PrivateKey, Snapshot, Verify};
use crate::proxy::tls::{self, TlsError};

/// What the proxy is to serve under `config`, with the certificates and keys read from their files. Farms that no site names
/// are left out.
pub fn snapshot(config: &model::Config) -> Result<Snapshot, SupervisorError> {
    let cluster = &config.cluster;
    let used: Vec<&model::Farm> =
        cluster.farms.iter().filter(|farm| cluster.sites.iter().any(|site| site.farm == farm.name)).collect();
    let farms = used.iter().map(|farm| farm_snapshot(farm)).collect::<Result<_, _>>()?;
    let site = |site: &model::Site| {
        let farm = used.iter().position(|farm| farm.name == site.farm);
        let farm = farm.ok_or_else(|| SupervisorError::NoFarm { farm: site.farm.clone() })?;
        site_snapshot(site, farm)
    };
    let sites = cluster.sites.iter().map(site).collect::<Result<_, _>>()?;
    let mut listen: Vec<SocketAddr> = cluster.sites.iter().flat_map(|site| site.listen.clone()).collect();
    listen.sort_unstable();
    listen.dedup();
    Ok(Snapshot { listen, sites, farms, drain_timeout: cluster.drain_timeout })
}

fn site_snapshot(site: &model::Site, farm: usize) -> Result<snapshot::Site, SupervisorError> {
    let certificate = read_pem(&site.certificate)?;
    let key = read_pem(&site.key)?;
    tls::certified_key(&certificate, &key).map_err(|source| SupervisorError::Pem {
        path: match source {
            TlsError::NoKey => site.key.clone(),
            TlsError::NoCertificate | TlsError::Mismatch | TlsError::Unusable(_) | TlsError::Name { .. } => {
                site.certificate.clone()
            }
        },
        source,
    })?;
    Ok(snapshot::Site {
        names: site.names.clone(),
        listen: site.listen.clone(),
        certificate,
        key: PrivateKey::new(key),
        farm,
    })
}

fn farm_snapshot(farm: &model::Farm) -> Result<snapshot::Farm, SupervisorError> {
    let verify = match &farm.verify {
        model::Verify::SameCertificate => Verify::SameCertificate,
        model::Verify::Nothing => Verify::Nothing,
        model::Verify::Ca(path) => {
            let verify = Verify::Ca(read_pem(path)?);
            tls::client_config(&verify, Vec::new())
                .map_err(|source| SupervisorError::Pem { path: path.clone(), source })?;
            verify
        }
    };
    Ok(snapshot::Farm {
        name: farm.name.clone(),
        servers: farm.servers.clone(),
        verify,
        health: farm.health.clone(),
        response_timeout: farm.response_timeout,
        connect_timeout: farm.connect_timeout,
    })
}

fn read_pem(path: &Path) -> Result<String, SupervisorError> {
    let cannot = |source| SupervisorError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(cannot)?.len();
    if length > LONGEST_PEM {
        return Err(cannot(io::ErrorKind::FileTooLarge.into()));
    }
    std::fs::read_to_string(path).map_err(cannot)
}

/// Longest PEM file in bytes.
const LONGEST_PEM: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_certificate_file_is_named() {
        let folder = std::env::temp_dir().join(format!("rollcall-pem-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let pair = |name: &str| {
            let made = rcgen::generate_simple_self_signed(["mail.example.test".to_owned()]).unwrap();
            let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            (certificate, key)
        };
        let ((certificate, key), (other, _)) = (pair("a"), pair("b"));
        let site = |certificate: &Path, key: &Path| {
            let site = model::Site {
                names: vec!["mail.example.test".to_owned()],
                listen: vec!["192.168.50.8:443".parse().unwrap()],
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                farm: "exchange".to_owned(),
            };
            site_snapshot(&site, 0).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(site(&certificate, &key), Ok(()));
        assert_eq!(site(&other, &key), Err(format!("cannot use {}", other.display())));
        assert_eq!(site(&certificate, &certificate), Err(format!("cannot use {}", certificate.display())));
        let missing = folder.join("missing");
        assert_eq!(site(&certificate, &missing), Err(format!("cannot read {}", missing.display())));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
