//! The hearing test: each second a serving node sends a frame as a client's would come, to the cluster MAC and a cluster IP.
//! The XDP program of every node that hears it notes when, and drops it. Who is deaf by that is judged in `cluster`.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use lb_common::verdict::HEARING_TEST;

use crate::checksum::checksum;
use crate::config::model::{HEARTBEAT_PORT, Priority};
use crate::sys::{FrameSocket, Received};

/// Time from one test to the next.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// Length of a test's payload: the mark, and who sends it.
const PAYLOAD: usize = HEARING_TEST.len() + 1;

/// Sends this node's tests. It never blocks.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: FrameSocket,
    frame: Vec<u8>,
}

/// The ends of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    /// Which node sends it.
    pub(crate) node: Priority,
    /// That node's own address and MAC address.
    pub(crate) own: (Ipv4Addr, [u8; 6]),
    /// The cluster IP and the cluster MAC.
    pub(crate) cluster: (Ipv4Addr, [u8; 6]),
}

impl Sender {
    /// On the interface with index `interface`, in the calling thread's network namespace.
    pub(crate) fn open(interface: u32, path: &Path) -> io::Result<Self> {
        Ok(Self { socket: FrameSocket::open(interface, Received::Nothing)?, frame: frame(path) })
    }

    /// Sends one. What goes wrong shows at the others, who do not hear it.
    pub(crate) fn send(&self) -> io::Result<()> {
        self.socket.send(&self.frame)
    }
}

fn frame(path: &Path) -> Vec<u8> {
    const UDP: u8 = 17;
    const LENGTH: u8 = 8 + PAYLOAD as u8;
    let (source, destination) = (path.own.0.octets(), path.cluster.0.octets());
    let [high, low] = HEARTBEAT_PORT.to_be_bytes();
    let mut udp = vec![high, low, high, low, 0, LENGTH, 0, 0];
    udp.extend(HEARING_TEST);
    udp.push(path.node.number());
    let sum = checksum(&[&source, &destination, &[0, UDP, 0, LENGTH], &udp]);
    // Zero would mean that there is none (RFC 768).
    udp[6..8].copy_from_slice(if sum == [0, 0] { &[0xff, 0xff] } else { &sum });
    // One hop, and no fragments: it is for this link alone.
    let mut ip = vec![0x45, 0, 0, 20 + LENGTH, 0, 0, 0x40, 0, 1, UDP, 0, 0];
    ip.extend(source);
    ip.extend(destination);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum);
    let mut frame = path.cluster.1.to_vec();
    frame.extend(path.own.1);
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend(udp);
    // Ethernet's least length, without its checksum.
    frame.resize(60, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_comes_as_a_clients_frame_would() {
        let path = Path {
            node: Priority::new(7).unwrap(),
            own: ([192, 168, 50, 7].into(), [2, 0, 0, 0, 0, 7]),
            cluster: ([192, 168, 50, 8].into(), [0x03, 0xbf, 192, 168, 50, 8]),
        };
        let frame = frame(&path);
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..14], *b"\x03\xbf\xc0\xa8\x32\x08\x02\0\0\0\0\x07\x08\0");
        assert_eq!(frame[16..18], [0, 36], "total length");
        assert_eq!(frame[26..34], [192, 168, 50, 7, 192, 168, 50, 8]);
        assert_eq!(frame[36..40], [29, 220, 0, 16], "destination port 7644, and the length");
        assert_eq!(frame[42..50], *b"rchear1\x07");
        assert_eq!(checksum(&[&frame[14..34]]), [0, 0]);
        assert_eq!(checksum(&[&frame[26..34], &[0, 17, 0, 16], &frame[34..50]]), [0, 0]);
    }
}
