//! What passes the DMZ's switch, on any of its ports and in any direction: frames that must not be there, and frames that must.
//! Counts and keeps a few; who answered which flow is for `capture`.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use lb_user::clock::Time;
use socket2::{SockFilter, Socket};

use crate::capture::filter::{INTERFACE, JEQ, JGT, JSET, LD_H, LD_LEN, LD_W, OUTGOING, PACKET_TYPE, RET};
use crate::capture::packet_socket;
use crate::estate::locked;
use crate::lab::{Lab, Mode, Place};

/// How many frames are kept.
const KEPT: usize = 8;

/// How much of each.
const HEADERS: u32 = 96;

/// In a MAC address's first two bytes: it belongs to a group, so no machine sends from it.
const GROUP: u32 = 0x0100;

/// A watch under way.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Found>>,
    thread: JoinHandle<Result<()>>,
}

/// The frames that were watched for.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// How many there were, each counted on every port that it passed.
    pub count: u64,
    /// The first bytes of the first of them, and when they passed.
    pub first: Vec<(Time, Vec<u8>)>,
}

impl Watch {
    /// For frames that carry a cluster MAC, of any mode, as their source: a switch that saw one would learn where the cluster MAC
    /// is, and all nodes but one would go deaf. Unicast's is looked at whole: the lab's other machines have random addresses, which
    /// may begin like it.
    pub fn for_cluster_mac_sources(lab: &Lab) -> Result<Self> {
        let insn = SockFilter::new;
        let [a, b, ip @ ..] = Mode::Unicast.cluster_mac();
        Self::start(
            lab,
            &[
                insn(LD_H, 0, 0, 6),
                insn(JSET, 4, 0, GROUP),
                insn(JEQ, 0, 2, u16::from_be_bytes([a, b]).into()),
                insn(LD_W, 0, 0, 8),
                insn(JEQ, 1, 0, u32::from_be_bytes(ip)),
                insn(RET, 0, 0, 0),
                insn(RET, 0, 0, HEADERS),
            ],
        )
    }

    /// For frames of more than `length` bytes that go to a node.
    pub fn for_longer(lab: &Lab, place: &Place, length: u32) -> Result<Self> {
        let insn = SockFilter::new;
        let port = lab.dmz.interface(&place.name)?;
        Self::start(
            lab,
            &[
                insn(LD_W, 0, 0, PACKET_TYPE),
                insn(JEQ, 0, 5, OUTGOING),
                insn(LD_W, 0, 0, INTERFACE),
                insn(JEQ, 0, 3, port),
                insn(LD_LEN, 0, 0, 0),
                insn(JGT, 0, 1, length),
                insn(RET, 0, 0, HEADERS),
                insn(RET, 0, 0, 0),
            ],
        )
    }

    fn start(lab: &Lab, filter: &[SockFilter]) -> Result<Self> {
        let socket = lab.dmz.enter(|| packet_socket(filter))??;
        let stop = Arc::new(AtomicBool::new(false));
        let found = Arc::new(Mutex::new(Found::default()));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&found));
        let thread = thread::spawn(move || listen(&socket, &stopped, &seen));
        Ok(Self { stop, found, thread })
    }

    /// What was found up to now.
    pub fn so_far(&self) -> Found {
        locked(&self.found).clone()
    }

    /// Ends it.
    pub fn finish(self) -> Result<Found> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("a watch panicked"))??;
        Ok(std::mem::take(&mut *locked(&self.found)))
    }
}

/// Ends once it is told to and nothing waits to be read.
fn listen(mut socket: &Socket, stop: &AtomicBool, found: &Mutex<Found>) -> Result<()> {
    let mut buffer = [0; HEADERS as usize];
    loop {
        match socket.read(&mut buffer) {
            Ok(length) => {
                let mut found = locked(found);
                found.count += 1;
                if found.first.len() < KEPT {
                    found.first.push((Time::now(), buffer[..length].to_vec()));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if stop.load(Ordering::Acquire) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error).context("a watch failed"),
        }
    }
}
