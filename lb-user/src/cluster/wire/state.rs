//! A node's state as bytes: what it holds of each owner table, and the table that it computed as default host. How a byte for
//! every bucket is packed is `bytemap.rs`'s.

use std::sync::Arc;

use lb_common::table::{BUCKETS, Bucket, TABLES};
use serde::{Deserialize, Serialize};

use super::bytemap::ByteMap;
use super::{Malformed, PART, Part, Reader};
use crate::cluster::operate::{Cause, MAX_CAUSES};
use crate::cluster::sets::BucketSet;
use crate::config::model::Priority;

/// How many releases of one owner table may be under way: as many as a byte can tell apart, see `Holdings::encode`.
pub(crate) const MAX_RELEASES: usize = 64;

/// What a node holds, has released, and as default host has computed. Replaced whole by a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// Per owner table.
    pub holdings: Vec<Holdings>,
    /// The owner table that the sender computed, if it is the default host.
    pub published: Option<Arc<Published>>,
}

/// What a node holds of one owner table. No bucket is held and departing or released, nor released twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// Accepts new connections of these.
    pub holds: BucketSet,
    /// Accepts none, but may still have connections in these.
    pub departing: BucketSet,
    /// Released, and not yet accepted: final, so that only the heir may take them. At most `MAX_RELEASES`.
    pub released: Vec<Release>,
}

/// Buckets that their holder gave to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// To whom.
    pub heir: Priority,
    /// To which incarnation of it: one that has given everything up since cannot accept.
    pub incarnation: u32,
    /// Counts the sender's releases from 1, so that each is accepted once however often it is repeated.
    pub id: u32,
    /// What.
    pub set: BucketSet,
}

impl Holdings {
    /// Holds nothing, has no connections.
    pub const NONE: Self =
        Self { holds: BucketSet::EMPTY, departing: BucketSet::EMPTY, released: Vec::new() };
}

/// An owner table: who should own what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its epoch; the author is the sender.
    pub epoch: u64,
    /// The nodes that it is for, in the order of priorities.
    pub members: Vec<Priority>,
    /// Per owner table.
    pub owners: Vec<Owners>,
    /// What it was computed for; at most `MAX_CAUSES`.
    pub causes: Vec<Cause>,
}

/// Which of some members should own each bucket of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners(ByteMap);

impl Owners {
    const NOBODY: u8 = u8::MAX;

    /// From the owners in the order of buckets, which are among `members`.
    pub(crate) fn new(owners: &[Option<Priority>], members: &[Priority]) -> Self {
        let mut map = ByteMap(Box::new([Self::NOBODY; BUCKETS]));
        for (place, owner) in map.0.iter_mut().zip(owners) {
            let number = members.iter().position(|member| Some(*member) == *owner);
            *place = number.and_then(|number| u8::try_from(number).ok()).unwrap_or(Self::NOBODY);
        }
        Self(map)
    }

    /// What each of `members` members should own.
    pub(crate) fn shares(&self, members: usize) -> Vec<BucketSet> {
        let mut shares = vec![BucketSet::EMPTY; members];
        for (bucket, owner) in Bucket::all().zip(self.0.0.iter()) {
            if let Some(share) = shares.get_mut(usize::from(*owner)) {
                share.insert(bucket);
            }
        }
        shares
    }
}

impl State {
    /// The bytes that parts carry.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::try_from(self.holdings.len()).unwrap_or(u8::MAX)];
        let mut before = ByteMap::zero();
        for holdings in &self.holdings {
            holdings.encode(&mut before, &mut out);
        }
        match &self.published {
            None => out.push(0),
            Some(published) => {
                out.push(u8::try_from(published.members.len()).unwrap_or(u8::MAX));
                out.extend(published.epoch.to_le_bytes());
                out.extend(published.members.iter().map(|member| member.number()));
                let causes = published.causes.iter().take(MAX_CAUSES);
                out.push(u8::try_from(causes.len()).unwrap_or(0));
                causes.for_each(|cause| cause.encode(&mut out));
                let zero = ByteMap::zero();
                let before = std::iter::once(&zero).chain(published.owners.iter().map(|owners| &owners.0));
                published
                    .owners
                    .iter()
                    .zip(before)
                    .for_each(|(owners, before)| owners.0.put(before, &mut out));
            }
        }
        out
    }

    /// Reads a state that fills `bytes`, of a cluster with `tables` owner tables.
    pub(crate) fn decode(bytes: &[u8], tables: usize) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        if usize::from(reader.u8()?) != tables || tables > TABLES {
            return Err(Malformed::Field("tables"));
        }
        let mut before = ByteMap::zero();
        let holdings =
            (0..tables).map(|_| Holdings::decode(&mut reader, &mut before)).collect::<Result<_, _>>()?;
        let published = match reader.u8()? {
            0 => None,
            count => Some(Arc::new(Published::decode(&mut reader, count, tables)?)),
        };
        reader.end()?;
        Ok(Self { holdings, published })
    }

    /// The state cut into parts.
    pub(crate) fn parts(&self, version: u64) -> Vec<Part> {
        let bytes = self.encode();
        let chunks: Vec<&[u8]> = bytes.chunks(PART).collect();
        let total = u8::try_from(chunks.len()).unwrap_or(u8::MAX);
        let part = |(index, bytes): (u8, &&[u8])| Part { version, index, total, bytes: bytes.to_vec() };
        (0..total).zip(&chunks).map(part).collect()
    }
}

impl Holdings {
    /// Each bucket's byte: 0 nothing, 1 held, 2 departing, `3 + 2 n` of release n, one more if it also departs.
    fn encode(&self, before: &mut ByteMap, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.released.len()).unwrap_or(u8::MAX));
        for release in &self.released {
            out.push(release.heir.number());
            out.extend(release.incarnation.to_le_bytes());
            out.extend(release.id.to_le_bytes());
        }
        let mut map = ByteMap::zero();
        self.departing.iter().for_each(|bucket| map.0[bucket.index()] = DEPARTING);
        for (release, byte) in self.released.iter().zip((FIRST_RELEASE..).step_by(2)) {
            let departs = |bucket: Bucket| u8::from(self.departing.contains(bucket));
            release.set.iter().for_each(|bucket| map.0[bucket.index()] = byte + departs(bucket));
        }
        self.holds.iter().for_each(|bucket| map.0[bucket.index()] = HELD);
        map.put(before, out);
        *before = map;
    }

    fn decode(reader: &mut Reader<'_>, before: &mut ByteMap) -> Result<Self, Malformed> {
        let count = reader.u8()?;
        if usize::from(count) > MAX_RELEASES {
            return Err(Malformed::Field("releases"));
        }
        let release = |_| {
            Ok(Release {
                heir: reader.priority()?,
                incarnation: reader.u32()?,
                id: reader.u32()?,
                set: BucketSet::EMPTY,
            })
        };
        let released = (0..count).map(release).collect::<Result<_, Malformed>>()?;
        let map = ByteMap::read(reader, before)?;
        let mut holdings = Self { released, ..Self::NONE };
        for (bucket, &byte) in Bucket::all().zip(map.0.iter()) {
            holdings.put(bucket, byte)?;
        }
        *before = map;
        Ok(holdings)
    }

    fn put(&mut self, bucket: Bucket, byte: u8) -> Result<(), Malformed> {
        match byte {
            0 => {}
            HELD => self.holds.insert(bucket),
            DEPARTING => self.departing.insert(bucket),
            FIRST_RELEASE.. => {
                let (number, departs) = ((byte - FIRST_RELEASE) / 2, (byte - FIRST_RELEASE) % 2 == 1);
                let release = self.released.get_mut(usize::from(number));
                release.ok_or(Malformed::Field("bucket"))?.set.insert(bucket);
                if departs {
                    self.departing.insert(bucket);
                }
            }
        }
        Ok(())
    }
}

const HELD: u8 = 1;
const DEPARTING: u8 = 2;
const FIRST_RELEASE: u8 = 3;

const _: () = assert!(FIRST_RELEASE as usize + 2 * MAX_RELEASES <= 256);

impl Published {
    fn decode(reader: &mut Reader<'_>, count: u8, tables: usize) -> Result<Self, Malformed> {
        let epoch = reader.u64()?;
        let members: Vec<Priority> = (0..count).map(|_| reader.priority()).collect::<Result<_, _>>()?;
        if !members.is_sorted_by(|a, b| a < b) {
            return Err(Malformed::Field("members"));
        }
        let count_of_causes = reader.u8()?;
        if usize::from(count_of_causes) > MAX_CAUSES {
            return Err(Malformed::Field("causes"));
        }
        let causes = (0..count_of_causes).map(|_| Cause::decode(reader)).collect::<Result<_, _>>()?;
        let mut before = ByteMap::zero();
        let mut owners = Vec::with_capacity(tables);
        for _ in 0..tables {
            let map = ByteMap::read(reader, &before)?;
            if map.0.iter().any(|&owner| owner >= count && owner != Owners::NOBODY) {
                return Err(Malformed::Field("owner"));
            }
            before = map.clone();
            owners.push(Owners(map));
        }
        Ok(Self { epoch, members, owners, causes })
    }
}
