//! What the gateway does with the cluster IP: an echo request that seems to come from it must come back to the cluster MAC.
//!
//! Where a node serves, the gateway has its answer already, and the configured mode alone is looked at. Where none does, this stands
//! in for one: it tells the gateway where the cluster IP is, mode after mode, and answers its questions, as the packet program would.
//! Then the gateway knows an unused address for a while, by the configured mode in the end. Nothing else learns anything.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::super::seen::{Echoes, Gateway, ModeEchoes, Watch};
use super::super::wire::{EchoReply, echo_request};
use super::super::{MODES, cluster_macs, igmp_group};
use super::resolve;
use crate::arp::{ARP_FRAME, Arp, Operation};
use crate::clock::Time;
use crate::config::model::Mode;
use crate::dataplane::link::Interface;
use crate::dataplane::plan::cluster_mac;
use crate::preflight::{self, next_frame};
use crate::sys::{FrameSocket, Received};

/// How many echoes are sent, and the time from one to the next.
const ECHOES: u16 = 5;
const PACE: Duration = Duration::from_millis(300);

/// How long the last one, and the gateway's next question, are waited for. Linux and FreeBSD ask again after a second.
const LAST_WAIT: Duration = Duration::from_millis(1200);

/// How often sockets are looked at in turn.
const SLICE: Duration = Duration::from_millis(10);

/// Longest frame that is looked at.
const FRAME: usize = 64;

/// Who asks whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// This node's interface and address.
    pub(super) nic: &'a Interface,
    pub(super) own: Ipv4Addr,
    /// The gateway.
    pub(super) gateway: Ipv4Addr,
    /// The cluster IP in its network, and the one that gives the cluster MAC its bytes.
    pub(super) cluster_ip: Ipv4Addr,
    pub(super) first_ip: IpAddr,
    /// The configured mode; `None`: there is none yet.
    pub(super) mode: Option<Mode>,
    /// Distinguishes this process's echoes from others'.
    pub(super) id: u16,
}

/// What this host's agent counts: questions that it answered, and echo replies that came to a cluster IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) questions: u64,
    pub(super) echoes: u64,
}

/// The modes in which echoes come back from an unused cluster IP, in the order in which they ask least of the network.
///
/// # Errors
/// Without CAP_NET_RAW, or the interface is down.
pub(crate) fn modes_that_come_back(
    nic: &Interface,
    own: Ipv4Addr,
    gateway: Ipv4Addr,
    cluster_ip: Ipv4Addr,
) -> io::Result<Vec<Mode>> {
    let asked = Asked {
        nic,
        own,
        gateway,
        cluster_ip,
        first_ip: cluster_ip.into(),
        mode: None,
        id: super::echo_id(),
    };
    let seen = look(asked, || None)?;
    let back = seen.modes.iter().filter(|seen| seen.echoes.back > 0).map(|seen| seen.mode);
    Ok(back.collect())
}

/// Looks. `counted`: what the agent counts, where its packet program takes what comes for the cluster IP. Takes up to 10 s.
///
/// # Errors
/// Without CAP_NET_RAW, or the interface is down.
pub(super) fn look(asked: Asked<'_>, counted: impl Fn() -> Option<Counted>) -> io::Result<Gateway> {
    let macs = resolve(asked.nic, asked.own, &[asked.gateway])?;
    let Some(&gateway_mac) = macs.get(&asked.gateway) else {
        let own = Echoes::default();
        let (address, modes) = (asked.gateway, Vec::new());
        return Ok(Gateway { address, resolves: false, own, claimed_by: None, modes });
    };
    let mut prober = Prober {
        asked,
        gateway_mac,
        arp: FrameSocket::open(asked.nic.index, Received::Arp)?,
        icmp: FrameSocket::open(asked.nic.index, Received::Icmp)?,
        answer: None,
    };
    let own = prober.exchange(asked.own, asked.nic.mac)?.echoes;
    let claims = preflight::probe(asked.nic, asked.cluster_ip.into())?;
    let known = |mac: &[u8; 6]| cluster_macs(asked.first_ip).iter().any(|(_, of)| of == mac);
    let claimed_by = claims.iter().copied().find(|mac| !known(mac));
    let modes = if claimed_by.is_some() {
        Vec::new()
    } else if let Some(before) = counted() {
        prober.by_counters(before, &counted)?.into_iter().collect()
    } else {
        prober.by_sockets(claims.first().copied())?
    };
    Ok(Gateway { address: asked.gateway, resolves: true, own, claimed_by, modes })
}

struct Prober<'a> {
    asked: Asked<'a>,
    gateway_mac: [u8; 6],
    arp: FrameSocket,
    icmp: FrameSocket,
    /// What the gateway's questions for the cluster IP are answered with; `None`: a node answers.
    answer: Option<[u8; 6]>,
}

/// What came of some echoes.
#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    echoes: Echoes,
    elsewhere: u32,
    asked: u32,
}

impl Prober<'_> {
    /// `answered`: the cluster MAC that a node answers with, if one serves.
    fn by_sockets(&mut self, answered: Option<[u8; 6]>) -> io::Result<Vec<ModeEchoes>> {
        // The group's member is known to the switches for as long as this lives.
        let member = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let _ = member.join_multicast_v4(&igmp_group(self.asked.first_ip), &self.asked.own);
        let mut seen = Vec::new();
        for mode in order(self.asked.mode) {
            let mac = cluster_mac(mode, self.asked.first_ip);
            if answered.is_some_and(|of| of != mac) {
                continue;
            }
            // What a driver does not let in does not come back, as it would not for the agent.
            let _ = self.icmp.let_in(self.asked.nic.index, mac);
            if answered.is_none() {
                self.answer = Some(mac);
                self.tell(mac)?;
            }
            let Exchange { echoes, elsewhere, asked } = self.exchange(self.asked.cluster_ip, mac)?;
            seen.push(ModeEchoes { mode, echoes, elsewhere, asked, by: Watch::Socket });
        }
        Ok(seen)
    }

    fn by_counters(
        &mut self,
        before: Counted,
        counted: impl Fn() -> Option<Counted>,
    ) -> io::Result<Option<ModeEchoes>> {
        let Some(mode) = self.asked.mode else { return Ok(None) };
        let sent = self.exchange(self.asked.cluster_ip, cluster_mac(mode, self.asked.first_ip))?.echoes.sent;
        let Some(after) = counted() else { return Ok(None) };
        let grown = |after: u64, before: u64| u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX);
        let echoes = Echoes { sent, back: grown(after.echoes, before.echoes).min(sent) };
        let asked = grown(after.questions, before.questions);
        Ok(Some(ModeEchoes { mode, echoes, elsewhere: 0, asked, by: Watch::Counters }))
    }

    /// Tells the gateway, and nobody else, that the cluster IP is at `mac`: by a question for the gateway's own address, from whose
    /// sender it learns (RFC 826).
    fn tell(&self, mac: [u8; 6]) -> io::Result<()> {
        let (cluster, own) = ((self.asked.cluster_ip, mac), self.asked.nic.mac);
        let question = Arp::question(self.asked.gateway, self.gateway_mac, cluster);
        self.arp.send(&Arp { from: own, ..question }.encode())
    }

    /// Sends echoes from `source` and waits for them to come back to `mac`.
    fn exchange(&mut self, source: Ipv4Addr, mac: [u8; 6]) -> io::Result<Exchange> {
        let mut exchange = Exchange::default();
        let mut back = [false; ECHOES as usize];
        for number in 0..ECHOES {
            let (to, from) = ((self.asked.gateway, self.gateway_mac), (source, self.asked.nic.mac));
            self.icmp.send(&echo_request(to, from, self.asked.id, number))?;
            exchange.echoes.sent += 1;
            let last = number + 1 == ECHOES;
            let until = Time::now() + if last { LAST_WAIT } else { PACE };
            while Time::now() < until && !(last && back.iter().all(|back| *back)) {
                exchange.asked += self.answer_questions()?;
                exchange.elsewhere += self.take_replies(source, mac, &mut back)?;
            }
        }
        exchange.echoes.back = u32::try_from(back.iter().filter(|back| **back).count()).unwrap_or(0);
        Ok(exchange)
    }

    /// Answers what the gateway asks meanwhile; how often it asked.
    fn answer_questions(&self) -> io::Result<u32> {
        let (mut count, until) = (0, Time::now() + SLICE);
        let mut frame = [0; ARP_FRAME];
        while let Some(length) = next_frame(&self.arp, &mut frame, until)? {
            let Some(question) = Arp::decode(&frame[..length]).filter(|arp| self.is_its_question(arp)) else {
                continue;
            };
            count += 1;
            if let Some(mac) = self.answer {
                let (from, sender) = (self.asked.nic.mac, (self.asked.cluster_ip, mac));
                let answer = Arp {
                    to: question.sender.1,
                    from,
                    operation: Operation::Reply,
                    sender,
                    target: question.sender,
                };
                self.arp.send(&answer.encode())?;
            }
        }
        Ok(count)
    }

    fn is_its_question(&self, arp: &Arp) -> bool {
        arp.operation == Operation::Request
            && arp.target.0 == self.asked.cluster_ip
            && arp.sender.1 == self.gateway_mac
    }

    /// Notes which echoes came back to `mac`; how many came back to another MAC address.
    fn take_replies(&self, to: Ipv4Addr, mac: [u8; 6], back: &mut [bool]) -> io::Result<u32> {
        let (mut elsewhere, until) = (0, Time::now() + SLICE);
        let mut frame = [0; FRAME];
        while let Some(length) = next_frame(&self.icmp, &mut frame, until)? {
            let reply = EchoReply::decode(&frame[..length]);
            let ours = |reply: &EchoReply| {
                (reply.from, reply.to, reply.id) == (self.asked.gateway, to, self.asked.id)
            };
            match reply.filter(ours) {
                Some(reply) if reply.to_mac == mac => {
                    if let Some(back) = back.get_mut(usize::from(reply.number)) {
                        *back = true;
                    }
                }
                Some(_) => elsewhere += 1,
                None => {}
            }
        }
        Ok(elsewhere)
    }
}

/// The configured mode comes last, so that the gateway is left with it.
fn order(configured: Option<Mode>) -> Vec<Mode> {
    let others = MODES.into_iter().filter(|mode| Some(*mode) != configured);
    others.chain(configured).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_left_with_the_configured_mode() {
        for mode in MODES {
            let order = order(Some(mode));
            assert_eq!((order.len(), order.last()), (3, Some(&mode)));
        }
        assert_eq!(order(None), MODES);
    }
}
