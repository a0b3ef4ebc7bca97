//! Why a snapshot cannot be served.

use thiserror::Error;

use crate::proxy::farm::StartFarmError;
use crate::proxy::policy::PolicyError;
use crate::proxy::protect::networks::NetworkError;
use crate::proxy::tcp::PublishError;
use crate::proxy::tls::{StapleError, TlsError};

/// Why a snapshot cannot be served. What was served before still is.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A site's certificate, key or name.
    #[error("cannot serve the site `{site}`")]
    Site {
        /// The site's first name.
        site: String,
        /// Why.
        source: TlsError,
    },
    /// How a farm spreads its requests.
    #[error("cannot use the farm `{farm}`")]
    Farm {
        /// Its name.
        farm: String,
        /// Why.
        source: StartFarmError,
    },
    /// What a site does with requests.
    #[error("cannot serve the site `{site}`")]
    Policy {
        /// The site's first name.
        site: String,
        /// Why.
        source: PolicyError,
    },
    /// The networks of trusted proxies.
    #[error("cannot use the trusted proxies")]
    Proxies(#[from] NetworkError),
    /// A site's OCSP response.
    #[error("cannot serve the site `{site}`")]
    Staple {
        /// The site's first name.
        site: String,
        /// Why.
        source: StapleError,
    },
    /// A TCP service.
    #[error("cannot publish the TCP service `{service}`")]
    Tcp {
        /// Its name.
        service: String,
        /// Why.
        source: PublishError,
    },
    /// TLS cannot be set up at all.
    #[error("cannot set up TLS")]
    Tls(#[source] TlsError),
    /// A site names a farm that is not there.
    #[error("a site names farm {farm}, which is not there")]
    NoFarm {
        /// The index.
        farm: usize,
    },
    /// No site names a farm.
    #[error("no site names farm {farm}")]
    UnusedFarm {
        /// The index.
        farm: usize,
    },
    /// Not one socket for each address.
    #[error("{sockets} listening sockets came for {addresses} addresses")]
    Sockets {
        /// How many came.
        sockets: usize,
        /// How many there should be.
        addresses: usize,
    },
    /// The system has no random numbers.
    #[error("the system gave no random numbers")]
    Random,
    /// A listening socket cannot be used.
    #[error("cannot use a listening socket")]
    Socket(#[source] std::io::Error),
}
