//! A heartbeat as bytes, and what is new in one. What its fields mean is in `wire.rs`.

use std::time::Duration;

use lb_common::table::TABLES;

use super::{
    Generations, Health, Heartbeat, MAX_KNOWN, Malformed, News, PeerReport, Phase, Reader, TableId, Traffic,
    Want,
};
use crate::cluster::operate::Intent;
use crate::config::model::Priority;

impl Heartbeat {
    /// Digest of the facts that it has prepared.
    pub(crate) fn prepared(&self) -> Option<u64> {
        self.known.first().copied().filter(|_| self.ready)
    }

    /// What it says of `node`.
    pub(crate) fn report_on(&self, node: Priority) -> Option<&PeerReport> {
        let place = self.peers.binary_search_by_key(&node, |report| report.node).ok()?;
        self.peers.get(place)
    }

    /// What is new in it for node `me`, after `last` of the same sender.
    pub(crate) fn news_since(&self, last: &Self, me: Priority) -> News {
        let of_itself = |of: &Self| {
            let times = (of.period, of.multiplier, of.incarnation, of.state_version);
            // One that tells its hearing and its traffic once a second is not news for that, nor is one that has another generation.
            (times, of.phase, of.intent, of.rank, of.health, of.mac, of.table)
        };
        let facts = |of: &Self| (of.facts, of.switched, of.ready, of.removes);
        let of_us = |of: &Self| of.report_on(me).copied();
        let of_facts = facts(self) != facts(last) || self.known != last.known;
        let of_shares = self.wants != last.wants || of_us(self) != of_us(last);
        if of_itself(self) != of_itself(last) || of_facts || of_shares {
            News::OfItself
        } else if self.peers != last.peers {
            News::OfOthers
        } else {
            News::Nothing
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(u16::try_from(self.period.as_millis()).unwrap_or(u16::MAX).to_le_bytes());
        out.push(self.multiplier);
        out.extend(self.incarnation.to_le_bytes());
        out.push(self.phase as u8);
        out.extend([self.intent as u8, self.rank.number(), self.health.encode()]);
        Want::encode_all(&self.wants, out);
        out.extend(self.mac);
        out.extend(self.facts.to_le_bytes());
        self.encode_switch(out);
        out.extend(self.table.epoch.to_le_bytes());
        out.push(self.table.author);
        out.extend(self.table.incarnation.to_le_bytes());
        out.extend(self.state_version.to_le_bytes());
        out.extend(self.hears.to_le_bytes());
        out.extend(self.traffic.packets.to_le_bytes());
        out.extend(self.traffic.bytes.to_le_bytes());
        out.extend(self.traffic.connections.to_le_bytes());
        out.extend(self.generations.current.to_le_bytes());
        out.extend(self.generations.candidate.to_le_bytes());
        out.push(u8::try_from(self.peers.len()).unwrap_or(u8::MAX));
        for peer in &self.peers {
            out.extend([peer.node.number(), u8::from(peer.alive) | u8::from(peer.flaps) << 1]);
            out.extend(peer.incarnation.to_le_bytes());
            // At a thousand changes a second for a month it would still fit.
            out.extend(u32::try_from(peer.state_version).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(peer.accepted.to_le_bytes());
            out.extend(u16::try_from(peer.suspect.as_millis()).unwrap_or(u16::MAX).to_le_bytes());
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let period = u16::from_le_bytes(reader.array()?);
        let multiplier = reader.u8()?;
        if !(5..=1000).contains(&period) || multiplier < 3 {
            return Err(Malformed::Field("period or multiplier"));
        }
        let incarnation = reader.u32()?;
        let phase = Phase::decode(reader.u8()?)?;
        Ok(Self {
            period: Duration::from_millis(u64::from(period)),
            multiplier,
            incarnation,
            phase,
            intent: Intent::decode(reader.u8()?)?,
            rank: reader.priority()?,
            health: Health::decode(reader.u8()?)?,
            wants: Want::decode_all(reader)?,
            mac: reader.array()?,
            facts: reader.u64()?,
            switched: reader.u64()?,
            known: Self::decode_known(reader)?,
            ready: Self::decode_flag(reader)?,
            removes: reader.u64()?,
            table: TableId { epoch: reader.u64()?, author: reader.u8()?, incarnation: reader.u32()? },
            state_version: reader.u64()?,
            hears: reader.u64()?,
            traffic: Traffic { packets: reader.u64()?, bytes: reader.u64()?, connections: reader.u32()? },
            generations: Generations { current: reader.u64()?, candidate: reader.u64()? },
            peers: Self::decode_peers(reader)?,
        })
    }

    fn encode_switch(&self, out: &mut Vec<u8>) {
        out.extend(self.switched.to_le_bytes());
        let known = self.known.iter().take(MAX_KNOWN);
        out.push(u8::try_from(known.len()).unwrap_or(0));
        known.for_each(|facts| out.extend(facts.to_le_bytes()));
        out.push(u8::from(self.ready));
        out.extend(self.removes.to_le_bytes());
    }

    fn decode_flag(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
        match reader.u8()? {
            flag @ (0 | 1) => Ok(flag == 1),
            _ => Err(Malformed::Field("ready")),
        }
    }

    fn decode_known(reader: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
        let count = reader.u8()?;
        if usize::from(count) > MAX_KNOWN {
            return Err(Malformed::Field("known facts"));
        }
        (0..count).map(|_| reader.u64()).collect()
    }

    fn decode_peers(reader: &mut Reader<'_>) -> Result<Vec<PeerReport>, Malformed> {
        let count = reader.u8()?;
        if count > Priority::MAX {
            return Err(Malformed::Field("peers"));
        }
        let peer = |_| {
            let (node, flags) = (reader.priority()?, reader.u8()?);
            if flags > 3 {
                return Err(Malformed::Field("report"));
            }
            Ok(PeerReport {
                node,
                alive: flags & 1 != 0,
                flaps: flags & 2 != 0,
                incarnation: reader.u32()?,
                state_version: u64::from(reader.u32()?),
                accepted: reader.u32()?,
                suspect: Duration::from_millis(u64::from(u16::from_le_bytes(reader.array()?))),
            })
        };
        let peers: Vec<PeerReport> = (0..count).map(peer).collect::<Result<_, _>>()?;
        if !peers.is_sorted_by(|a, b| a.node < b.node) {
            return Err(Malformed::Field("peers"));
        }
        Ok(peers)
    }
}

impl Health {
    fn encode(self) -> u8 {
        let Self { deaf, gateway, cut_off, settled } = self;
        u8::from(deaf) | u8::from(gateway) << 1 | u8::from(cut_off) << 2 | u8::from(settled) << 3
    }

    fn decode(flags: u8) -> Result<Self, Malformed> {
        let flag = |bit: u8| flags >> bit & 1 != 0;
        let health = Self { deaf: flag(0), gateway: flag(1), cut_off: flag(2), settled: flag(3) };
        if health.encode() == flags { Ok(health) } else { Err(Malformed::Field("health")) }
    }
}

impl Want {
    fn flags(self) -> u8 {
        u8::from(self.ready) | u8::from(self.leaving) << 1 | u8::from(self.aside) << 2
    }

    /// How many, then runs of equal ones: their count, weight and flags. Most tables are alike.
    fn encode_all(wants: &[Self], out: &mut Vec<u8>) {
        let runs: Vec<&[Self]> = wants.chunk_by(|a, b| a == b).collect();
        out.push(u8::try_from(runs.len()).unwrap_or(u8::MAX));
        for run in runs {
            let Some(want) = run.first() else { continue };
            out.extend([u8::try_from(run.len()).unwrap_or(u8::MAX), want.weight, want.flags()]);
        }
    }

    fn decode_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        let mut wants = Vec::new();
        for _ in 0..reader.u8()? {
            let [count, weight, flags] = reader.array()?;
            let flag = |bit: u8| flags >> bit & 1 != 0;
            let want = Self { weight, ready: flag(0), leaving: flag(1), aside: flag(2) };
            let fits = wants.len() + usize::from(count) <= TABLES && count > 0;
            if !fits || weight > 100 || want.flags() != flags {
                return Err(Malformed::Field("wants"));
            }
            wants.extend(std::iter::repeat_n(want, count.into()));
        }
        Ok(wants)
    }
}
