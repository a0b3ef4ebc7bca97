//! Orders on their way to a child: a frame may be megabytes, and is never waited for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::proxy::channel::{FrameError, Order, encode_frame};
use crate::proxy::fds;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::proxy::supervisor) struct Outbox {
    parcels: VecDeque<Parcel>,
}

#[derive(Debug)]
struct Parcel {
    bytes: Vec<u8>,
    sent: usize,
    /// They go along with the first byte.
    sockets: Vec<OwnedFd>,
}

impl Outbox {
    /// Has an order sent after those that were put in before it.
    pub(in crate::proxy::supervisor) fn put(
        &mut self,
        order: &Order,
        sockets: Vec<OwnedFd>,
    ) -> Result<(), FrameError> {
        let bytes = encode_frame(order)?;
        self.parcels.push_back(Parcel { bytes, sent: 0, sockets });
        Ok(())
    }

    /// Sends what the channel takes, until all is sent. Cancel safe; never returns while it is empty.
    pub(in crate::proxy::supervisor) async fn send(&mut self, channel: &UnixStream) -> io::Result<()> {
        if self.parcels.is_empty() {
            return std::future::pending().await;
        }
        while let Some(parcel) = self.parcels.front_mut() {
            let first = parcel.sent == 0;
            let along: Vec<_> = parcel.sockets.iter().filter(|_| first).map(OwnedFd::as_fd).collect();
            let left = &parcel.bytes[parcel.sent..];
            let send = || fds::send_some(channel, left, &along);
            parcel.sent += channel.async_io(Interest::WRITABLE, send).await?;
            if parcel.sent == parcel.bytes.len() {
                self.parcels.pop_front();
            }
        }
        Ok(())
    }

    /// What is not sent yet, without sockets: an order whose sockets are not on their way is lost with them.
    pub(in crate::proxy::supervisor) fn unsent(&self) -> Vec<u8> {
        let begun = |parcel: &&Parcel| parcel.sockets.is_empty() || parcel.sent > 0;
        let parcels = self.parcels.iter().filter(begun);
        parcels.flat_map(|parcel| &parcel.bytes[parcel.sent..]).copied().collect()
    }

    /// As another supervisor left it.
    pub(in crate::proxy::supervisor) fn resumed(unsent: Vec<u8>) -> Self {
        let parcel = Parcel { bytes: unsent, sent: 0, sockets: Vec::new() };
        Self { parcels: Some(parcel).into_iter().filter(|parcel| !parcel.bytes.is_empty()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::proxy::channel::decode_frame;
    use crate::proxy::snapshot::tests::one_site;

    #[tokio::test]
    async fn orders_longer_than_a_socket_holds_arrive_in_order_with_their_sockets() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut snapshot = one_site("192.168.50.8:443".parse().unwrap());
        snapshot.sites[0].certificate = "x".repeat(1 << 20);
        let apply = Order::Apply { number: 1, snapshot: Box::new(snapshot) };
        let socket = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let mut outbox = Outbox::default();
        outbox.put(&Order::Drain, Vec::new()).unwrap();
        outbox.put(&apply, vec![socket(), socket()]).unwrap();
        outbox.put(&Order::Resume, Vec::new()).unwrap();
        let (mut bytes, mut sockets, mut orders) = (Vec::new(), Vec::new(), Vec::new());
        while orders.len() < 3 {
            tokio::select! {
                sent = outbox.send(&ours) => sent.unwrap(),
                () = async { theirs.readable().await.unwrap() } => {
                    let mut buffer = vec![0; 64 << 10];
                    let read = || fds::receive(&theirs, &mut buffer, &mut sockets);
                    if let Ok(length) = theirs.try_io(Interest::READABLE, read) {
                        bytes.extend_from_slice(&buffer[..length]);
                    }
                    orders.extend(decode_frame(&mut bytes).unwrap());
                }
            }
        }
        assert_eq!(orders, [Order::Drain, apply, Order::Resume]);
        assert_eq!(sockets.len(), 2);
    }
}
