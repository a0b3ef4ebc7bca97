//! Answers another node's doctor: listens for its probes when it calls, and says which arrive. The agent runs it, and so does
//! `rollcall doctor --listen`. At rest it costs nothing but a socket for calls; the one for probes is open for some seconds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::wire::{CALLS, Keys, Kind, LONGEST, Message, PROBE_PORT};
use super::{MAX_FRAMES, MODES, cluster_macs, igmp_group};
use crate::clock::Time;
use crate::config::model::{Config, Priority};
use crate::config::secret::ClusterSecret;
use crate::dataplane::link::Interface;
use crate::sys::{self, FrameSocket, Received};

/// For how long a node listens to a doctor that called.
const LISTENS: Duration = Duration::from_secs(8);

/// How many answers a doctor gets: to three calls, and to every frame that it may send.
const ANSWERS: u32 = 3 + MODES.len() as u32 * MAX_FRAMES;

/// How many frames are read before others of this thread get their turn, and how long that is: whoever floods the segment costs this
/// much and no more.
const BATCH: u32 = 64;
const PAUSE: Duration = Duration::from_millis(10);

/// Where a node listens, and who it is.
#[derive(Clone)]
pub(crate) struct Place {
    me: Priority,
    address: Ipv4Addr,
    first_ip: IpAddr,
    interface: u32,
    mac: [u8; 6],
    keys: Keys,
}

impl Place {
    /// That of this configuration's node.
    pub(crate) fn of(config: &Config, nic: &Interface, secret: &ClusterSecret) -> Self {
        let (cluster, me) = (&config.cluster, config.me());
        Self {
            me: me.priority,
            address: me.address,
            first_ip: cluster.cluster_ips.first().map_or(cluster.probed().into(), |ip| ip.address),
            interface: nic.index,
            mac: nic.mac,
            keys: Keys::of(&secret.doctor_keys()),
        }
    }
}

/// Listens until it is dropped, or a socket fails. Within a Tokio runtime.
pub(crate) async fn serve(place: Place) -> io::Result<()> {
    let calls = Waiting::open(&place, Received::EtherType(CALLS))?;
    let mut responder = Responder { me: place.me, session: None };
    loop {
        calls.wait().await?;
        calls.drain(|frame| {
            let message = Message::of_call(frame, &place.keys)?;
            let answer = responder.handle_call(&message, mac_of(frame)?, Time::now())?;
            send(&calls.socket, &place, &answer)
        });
        if responder.session.is_some() {
            listen(&place, &mut responder, &calls).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until the doctor has been listened to for long enough.
async fn listen(place: &Place, responder: &mut Responder, calls: &Waiting) -> io::Result<()> {
    let probes = Waiting::open(place, Received::Udp(PROBE_PORT))?;
    for (_, mac) in cluster_macs(place.first_ip) {
        // Where a driver takes no further address nothing arrives, and that is what the doctor is to learn.
        let _ = probes.socket.let_in(place.interface, mac);
    }
    // A switch that snoops wants to hear of members; the membership ends with the socket.
    let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let _ = member.join_multicast_v4(&igmp_group(place.first_ip), &place.address);
    while let Some(left) = responder.listens_for(Time::now()) {
        tokio::select! {
            ready = probes.wait() => ready?,
            ready = calls.wait() => ready?,
            () = tokio::time::sleep(left) => continue,
        }
        calls.drain(|frame| {
            let message = Message::of_call(frame, &place.keys)?;
            let answer = responder.handle_call(&message, mac_of(frame)?, Time::now())?;
            send(&calls.socket, place, &answer)
        });
        probes.drain(|frame| {
            let message = Message::of_probe(frame, &place.keys)?;
            let answer = responder.handle_probe(&message, Time::now())?;
            send(&calls.socket, place, &answer)
        });
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn mac_of(frame: &[u8]) -> Option<[u8; 6]> {
    frame.get(6..12)?.try_into().ok()
}

fn send(socket: &FrameSocket, place: &Place, answer: &Answer) -> Option<()> {
    // What is lost here is counted as lost there.
    socket.send(&answer.message.call_frame(answer.to, place.mac, &place.keys)).ok()
}

/// A socket that is waited for.
struct Waiting {
    socket: FrameSocket,
    ready: AsyncFd<OwnedFd>,
}

impl Waiting {
    fn open(place: &Place, received: Received) -> io::Result<Self> {
        let socket = FrameSocket::open(place.interface, received)?;
        let ready = sys::readable(socket.as_fd().try_clone_to_owned()?)?;
        Ok(Self { socket, ready })
    }

    /// Cancel safe: it takes nothing.
    async fn wait(&self) -> io::Result<()> {
        self.ready.readable().await?.retain_ready();
        Ok(())
    }

    /// Hands out what has come, a batch at most.
    fn drain(&self, mut see: impl FnMut(&[u8]) -> Option<()>) {
        let mut frame = [0; LONGEST];
        for _ in 0..BATCH {
            // Where nothing is left the next frame wakes.
            let Ok(length) = self.ready.try_io(Interest::READABLE, |_| self.socket.recv(&mut frame)) else {
                return;
            };
            // What is no message of this cluster is nothing to anybody.
            let _ = see(&frame[..length]);
        }
    }
}

/// Whom this node listens to.
#[derive(Debug)]
struct Responder {
    me: Priority,
    session: Option<Session>,
}

/// A doctor that called.
#[derive(Debug)]
struct Session {
    run: [u8; 16],
    from: Priority,
    mac: [u8; 6],
    until: Time,
    answers: u32,
}

/// A frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    to: [u8; 6],
    message: Message,
}

impl Responder {
    /// Takes a call in, which came from that MAC address. One doctor at a time: another waits until it is over.
    fn handle_call(&mut self, message: &Message, mac: [u8; 6], now: Time) -> Option<Answer> {
        let for_me = message.to == self.me && message.from != self.me;
        (message.kind == Kind::Call && for_me).then_some(())?;
        self.listens_for(now);
        let session = self.session.get_or_insert(Session {
            run: message.run,
            from: message.from,
            mac,
            until: now + LISTENS,
            answers: ANSWERS,
        });
        session.answer(message, Kind::Ready)
    }

    /// Takes a probe in.
    fn handle_probe(&mut self, message: &Message, now: Time) -> Option<Answer> {
        let Kind::Probe(mode) = message.kind else { return None };
        self.listens_for(now)?;
        self.session.as_mut().filter(|_| message.to == self.me)?.answer(message, Kind::Arrived(mode))
    }

    /// For how long it still listens; `None`: to nobody.
    fn listens_for(&mut self, now: Time) -> Option<Duration> {
        let left = self.session.as_ref().map(|session| session.until.since(now));
        let left = left.filter(|left| !left.is_zero());
        if left.is_none() {
            self.session = None;
        }
        left
    }
}

impl Session {
    fn answer(&mut self, to: &Message, kind: Kind) -> Option<Answer> {
        (to.run == self.run && to.from == self.from).then_some(())?;
        self.answers = self.answers.checked_sub(1)?;
        Some(Answer { to: self.mac, message: Message { kind, from: to.to, to: to.from, ..*to } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Mode;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn node(number: u8) -> Priority {
        Priority::new(number).unwrap()
    }

    fn message(kind: Kind, run: u8) -> Message {
        Message { kind, from: node(7), to: node(6), number: 3, run: [run; 16] }
    }

    fn responder() -> Responder {
        Responder { me: node(6), session: None }
    }

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn who_called_is_told_of_each_probe_that_arrives() {
        let mut responder = responder();
        let answer = |kind| {
            Some(Answer { to: MAC, message: Message { from: node(6), to: node(7), ..message(kind, 1) } })
        };
        let probe = message(Kind::Probe(Mode::Igmp), 1);
        assert_eq!(responder.handle_probe(&probe, at(1)), None, "nobody called");
        assert_eq!(responder.handle_call(&message(Kind::Call, 1), MAC, at(1)), answer(Kind::Ready));
        assert_eq!(responder.handle_probe(&probe, at(2)), answer(Kind::Arrived(Mode::Igmp)));
        assert_eq!(
            responder.handle_probe(&message(Kind::Probe(Mode::Igmp), 2), at(2)),
            None,
            "of another run"
        );
        assert_eq!(responder.handle_probe(&probe, at(9)), None, "too late");
    }

    #[test]
    fn a_second_doctor_waits_for_the_first() {
        let mut responder = responder();
        assert!(responder.handle_call(&message(Kind::Call, 1), MAC, at(1)).is_some());
        assert_eq!(responder.handle_call(&message(Kind::Call, 2), MAC, at(3)), None);
        assert!(responder.handle_call(&message(Kind::Call, 2), MAC, at(9)).is_some());
    }

    #[test]
    fn a_call_for_another_node_or_of_this_one_is_not_answered() {
        for (from, to) in [(7, 5), (6, 6)] {
            let call = Message { from: node(from), to: node(to), ..message(Kind::Call, 1) };
            assert_eq!(responder().handle_call(&call, MAC, at(1)), None);
        }
        assert_eq!(responder().handle_call(&message(Kind::Ready, 1), MAC, at(1)), None);
    }

    #[test]
    fn a_doctor_gets_no_more_answers_than_it_may_send_frames() {
        let mut responder = responder();
        responder.handle_call(&message(Kind::Call, 1), MAC, at(1));
        let probe = message(Kind::Probe(Mode::Unicast), 1);
        let answered = (0..1000).filter(|_| responder.handle_probe(&probe, at(2)).is_some()).count();
        assert_eq!(answered, ANSWERS as usize - 1);
    }
}
