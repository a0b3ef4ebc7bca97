//! Health tests of the servers behind a TCP service: a connection, and the first line that the server says, if one is expected.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::pool::{Pool, TEST, connect};
use crate::config::model::TcpHealth;
use crate::proxy::balance::finding::Finding;
use crate::proxy::group;

/// Tests one server for ever, and tells `pool` what it finds.
pub async fn watch(pool: Arc<Pool>, server: usize) {
    let TcpHealth { interval, timeout, .. } = pool.test;
    let pool = &*pool;
    pool.group.watch((TEST, server), interval, timeout, || Failure::Timeout, || test(pool, server)).await;
}

/// One test, with a connection of its own.
async fn test(pool: &Pool, server: usize) -> Result<Finding, Failure> {
    let mut stream = connect(pool.group.servers[server].address).await.map_err(Failure::Connect)?;
    stream.write_all(&pool.greeting).await.map_err(Failure::Closed)?;
    if let Some(banner) = &pool.test.banner {
        expect(&mut stream, banner.as_bytes()).await?;
    }
    Ok(Finding::Connected)
}

/// Whether what the server says begins with `banner`.
async fn expect(stream: &mut (impl AsyncRead + Unpin), banner: &[u8]) -> Result<(), Failure> {
    let mut said = vec![0; banner.len()];
    stream.read_exact(&mut said).await.map_err(Failure::Closed)?;
    if said == banner { Ok(()) } else { Err(Failure::Banner { said: said.escape_ascii().to_string() }) }
}

/// Why a test failed.
#[derive(Debug, Error)]
enum Failure {
    #[error("no connection, or no banner, in time")]
    Timeout,
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection ended before the banner: {0}")]
    Closed(io::Error),
    #[error("the server's banner begins with \"{said}\"")]
    Banner {
        /// As many bytes as were expected, escaped.
        said: String,
    },
}

impl group::Failure for Failure {
    fn finding(&self) -> Finding {
        match self {
            Self::Timeout => Finding::Timeout,
            Self::Connect(_) => Finding::NoConnection,
            Self::Closed(_) | Self::Banner { .. } => Finding::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_banner_is_good_by_how_it_begins_however_it_comes() {
        for (parts, good) in [
            (&["220 edge ESMTP\r\n"][..], true),
            (&["2", "2", "0-edge"], true),
            (&["421 busy\r\n"], false),
            (&["22"], false),
            (&[], false),
        ] {
            let mut server = saying(parts);
            assert_eq!(expect(&mut server, b"220").await.is_ok(), good, "{parts:?}");
        }
    }

    /// What says these parts, each in a read of its own, and ends.
    fn saying(parts: &[&'static str]) -> impl AsyncRead + Unpin {
        let nothing: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        parts.iter().fold(nothing, |before, part| Box::new(before.chain(part.as_bytes())))
    }
}
