//! A connection that begins with a PROXY header: read from the socket, and no byte beyond it.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::tcp::proxy_protocol::{self, Beginning, LONGEST_HEADER, NoHeader};

/// Why it is not known whom a connection is from.
#[derive(Debug, Error)]
pub enum Unknown {
    /// It begins otherwise.
    #[error(transparent)]
    NoHeader(#[from] NoHeader),
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whom the header says that the connection is from; `None`: it says nothing. Whoever calls it says how long that may take.
pub async fn client(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Unknown> {
    let mut came = Vec::new();
    loop {
        let had = came.len();
        came.resize(LONGEST_HEADER, 0);
        let peeked = stream.peek(&mut came[had..]).await?;
        if peeked == 0 {
            return Err(NoHeader.into());
        }
        came.truncate(had + peeked);
        let beginning = proxy_protocol::read(&came)?;
        // What is part of the header for certain is taken out of the socket, so that the next look waits for more.
        let sure = match beginning {
            Beginning::Incomplete => came.len(),
            Beginning::Header { length, .. } => length,
        };
        stream.read_exact(&mut came[had..sure]).await?;
        if let Beginning::Header { client, .. } = beginning {
            return Ok(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (there, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_header_is_read_however_it_comes_and_nothing_behind_it() {
        let header = b"PROXY TCP4 203.0.113.5 192.168.50.8 40000 443\r\n";
        for cut in [1, 7, header.len() - 1, header.len()] {
            let (mut there, mut here) = pair().await;
            let reading = tokio::spawn(async move {
                let client = client(&mut here).await.unwrap();
                let mut rest = [0; 5];
                here.read_exact(&mut rest).await.unwrap();
                (client, rest)
            });
            there.set_nodelay(true).unwrap();
            there.write_all(&header[..cut]).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            there.write_all(&[&header[cut..], b"hello"].concat()).await.unwrap();
            let named = Some("203.0.113.5:40000".parse().unwrap());
            assert_eq!(reading.await.unwrap(), (named, *b"hello"), "{cut}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_begins_otherwise_or_ends_is_nobodys() {
        for text in ["GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 203"] {
            let (mut there, mut here) = pair().await;
            there.write_all(text.as_bytes()).await.unwrap();
            drop(there);
            assert!(matches!(client(&mut here).await, Err(Unknown::NoHeader(_))), "{text}");
        }
    }
}
