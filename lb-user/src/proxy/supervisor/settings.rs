//! config -> what the proxy is to serve, with the certificates and keys read from their files.

use std::net::SocketAddr;
use std::path::Path;

use super::error::SupervisorError;
use crate::config::secret::ClusterSecret;
use crate::config::{self, model};
use crate::proxy::snapshot::{self, AffinityKeys, Snapshot, Verify};
use crate::proxy::tls::material::MaterialError;
use crate::proxy::tls::{self, ClientAuth, SiteTls, TlsError};

/// What the proxy is to serve under `config`, with what derives from `secret`, with the certificates and keys read from their files. Farms that no site names
/// are left out.
pub fn snapshot(config: &model::Config, secret: &ClusterSecret) -> Result<Snapshot, SupervisorError> {
    let cluster = &config.cluster;
    let used: Vec<&model::Farm> = cluster
        .farms
        .iter()
        .filter(|farm| cluster.sites.iter().any(|site| site.service.farms().any(|used| *used == farm.name)))
        .collect();
    let files = &config.files;
    let farms = used.iter().map(|farm| farm_snapshot(farm, files)).collect::<Result<_, _>>()?;
    let number = |farm: String| {
        let number = used.iter().position(|known| known.name == farm);
        number.ok_or(SupervisorError::NoFarm { farm })
    };
    let site = |site: &model::Site| {
        let service = site.service.clone().try_map(number)?;
        site_snapshot(site, service, files)
    };
    let sites = cluster.sites.iter().map(site).collect::<Result<_, _>>()?;
    let mut listen: Vec<SocketAddr> = cluster.listens().collect();
    listen.sort_unstable();
    listen.dedup();
    Ok(Snapshot {
        listen,
        sites,
        farms,
        tcp: cluster.tcp.clone(),
        drain_timeout: cluster.drain_timeout,
        limits: cluster.limits.clone(),
        protection: cluster.protection.clone(),
        trusted_proxies: cluster.trusted_proxies.clone(),
        tickets: secret.ticket_secrets(),
        affinity: AffinityKeys::new(secret.affinity_keys()),
        seed: secret.farm_seed(),
        log: cluster.log,
    })
}

fn site_snapshot(
    site: &model::Site,
    service: model::Service<usize>,
    files: &model::Files,
) -> Result<snapshot::Site, SupervisorError> {
    let wrong = |path: &Path, source: MaterialError| SupervisorError::Pem {
        path: path.to_owned(),
        source: source.into(),
    };
    let read = |path: &Path| read(path, files);
    let material = config::material(site, read, wrong)?;
    for warning in material.warnings() {
        tracing::warn!(certificate = %site.certificate.display(), %warning, "a site's files are not quite right");
    }
    Ok(snapshot::Site {
        names: site.names.clone(),
        listen: site.listen.clone(),
        redirect: site.redirect.clone(),
        certificate: material.chain_pem(),
        key: material.key_pem(),
        previous: Vec::new(),
        tls: site_tls(site, files)?,
        staple: site.tls.ocsp.as_deref().map(read).transpose()?,
        service,
    })
}

/// Protocols and client authentication.
fn site_tls(site: &model::Site, files: &model::Files) -> Result<SiteTls, SupervisorError> {
    let client_auth = match &site.tls.clients {
        model::Clients::Unasked => ClientAuth::Off,
        model::Clients::Optional(ca) => ClientAuth::Optional { ca: read_pem(ca, files)? },
        model::Clients::Required(ca) => ClientAuth::Required { ca: read_pem(ca, files)? },
    };
    Ok(SiteTls { alpn: site.tls.protocols.clone(), client_auth })
}

fn farm_snapshot(farm: &model::Farm, files: &model::Files) -> Result<snapshot::Farm, SupervisorError> {
    let verify = match &farm.verify {
        model::Verify::SameCertificate => Verify::SameCertificate,
        model::Verify::Nothing => Verify::Nothing,
        model::Verify::Clear => Verify::Clear,
        model::Verify::Pins(pins) => Verify::Pins(pins.clone()),
        model::Verify::Ca(path) => {
            let verify = Verify::Ca(read_pem(path, files)?);
            tls::client_config(&verify, Vec::new())
                .map_err(|source| SupervisorError::Pem { path: path.clone(), source })?;
            verify
        }
    };
    Ok(snapshot::Farm {
        name: farm.name.clone(),
        servers: farm.servers.clone(),
        balance: farm.balance.clone(),
        verify,
        tests: farm.tests.clone(),
        connect_timeout: farm.connect_timeout,
        reuse: farm.reuse,
    })
}

fn read_pem(path: &Path, files: &model::Files) -> Result<String, SupervisorError> {
    let not_text = |_| SupervisorError::Pem { path: path.to_owned(), source: TlsError::NoCertificate };
    String::from_utf8(read(path, files)?).map_err(not_text)
}

fn read(path: &Path, files: &model::Files) -> Result<Vec<u8>, SupervisorError> {
    files.read(path).map_err(|source| SupervisorError::Read { path: path.to_owned(), source })
}

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
                redirect: Vec::new(),
                tls: model::SiteTls::default(),
                service: model::Service::to_farm("exchange", model::Bounds::default()),
            };
            let service = site.service.clone().try_map(|_| Ok::<_, SupervisorError>(0)).unwrap();
            site_snapshot(&site, service, &model::Files::Disk).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(site(&certificate, &key), Ok(()));
        assert_eq!(site(&other, &key), Err(format!("cannot use {}", other.display())));
        assert_eq!(site(&certificate, &certificate), Err(format!("cannot use {}", certificate.display())));
        let missing = folder.join("missing");
        assert_eq!(site(&certificate, &missing), Err(format!("cannot read {}", missing.display())));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
