//! What is kept under which key, and in how many parts. Pure.
//!
//! ```text
//! PREFIX/contents/GENERATION/02-16     the third of 16 parts of its content
//! PREFIX/generations/GENERATION        its header: put after the content, so that who sees it finds that whole
//! PREFIX/records/GENERATION/RECORD     a record on it: put after the header
//! ```
//! etcd refuses requests above 1.5 MiB, and the longest generation has 16. Names are in the keys so that a look at the keys alone
//! tells what is there, and records beside what they are about so that those go with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::shared::exchange::Listing;
use crate::shared::generation::{GenerationId, MAX_BYTES};
use crate::shared::record::RecordId;

/// Bytes of a part: with all that belongs to a request below etcd's limit.
pub const PART: usize = 1 << 20;

/// Most parts of a content.
pub const MOST_PARTS: usize = MAX_BYTES.div_ceil(PART);

/// Most keys that are looked at: those of 1,000 generations and more.
pub const MOST_KEYS: usize = 16 << 10;

/// What keys begin with.
#[derive(Clone, Debug)]
pub struct Prefix(String);

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A generation's header.
    Head(GenerationId),
    /// A part of a generation's content.
    Part {
        /// Of which.
        of: GenerationId,
        /// Which part, from 0.
        number: usize,
        /// How many there are, up to [`MOST_PARTS`].
        count: usize,
    },
    /// A record.
    Record {
        /// The generation that it is about.
        about: GenerationId,
        /// Its name.
        id: RecordId,
    },
}

impl Prefix {
    /// Keys that begin with `text` and a `/`.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The key of what is named.
    pub fn key(&self, key: Key) -> String {
        let prefix = &self.0;
        match key {
            Key::Head(id) => format!("{prefix}/{GENERATIONS}/{id}"),
            Key::Part { of, number, count } => format!("{prefix}/{CONTENTS}/{of}/{number:02}-{count:02}"),
            Key::Record { about, id } => format!("{prefix}/{RECORDS}/{about}/{id}"),
        }
    }

    /// What a key names; `None`: nothing of ours.
    pub fn read(&self, key: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(key).ok()?.strip_prefix(&self.0)?.strip_prefix('/')?;
        let (kind, rest) = text.split_once('/')?;
        let read = match kind {
            GENERATIONS => Key::Head(rest.parse().ok()?),
            CONTENTS => {
                let (of, part) = rest.split_once('/')?;
                let (number, count) = part.split_once('-')?;
                Key::Part { of: of.parse().ok()?, number: number.parse().ok()?, count: count.parse().ok()? }
            }
            RECORDS => {
                let (about, id) = rest.split_once('/')?;
                // Both names are hashes, written alike.
                let id: GenerationId = id.parse().ok()?;
                Key::Record { about: about.parse().ok()?, id: RecordId::from_bytes(id.bytes()) }
            }
            _ => return None,
        };
        // One spelling only.
        (self.key(read).as_bytes() == key && read.is_sound()).then_some(read)
    }

    /// All keys.
    pub fn all(&self) -> Range<Vec<u8>> {
        below(&self.0)
    }

    /// Those of a generation's content.
    pub fn contents(&self, id: GenerationId) -> Range<Vec<u8>> {
        below(&format!("{}/{CONTENTS}/{id}", self.0))
    }

    /// Those of the records on a generation.
    pub fn records(&self, id: GenerationId) -> Range<Vec<u8>> {
        below(&format!("{}/{RECORDS}/{id}", self.0))
    }

    /// The one of a generation's header.
    pub fn head(&self, id: GenerationId) -> Range<Vec<u8>> {
        only(self.key(Key::Head(id)))
    }
}

impl Key {
    fn is_sound(self) -> bool {
        match self {
            Self::Part { number, count, .. } => number < count && count <= MOST_PARTS,
            Self::Head(_) | Self::Record { .. } => true,
        }
    }
}

/// This key and no other: the least that is greater has a zero behind it.
pub fn only(key: String) -> Range<Vec<u8>> {
    let key = key.into_bytes();
    let end = [&key[..], &[0]].concat();
    key..end
}

/// All keys that begin with `text` and a `/`: `0` is the next character.
fn below(text: &str) -> Range<Vec<u8>> {
    format!("{text}/").into_bytes()..format!("{text}0").into_bytes()
}

/// A content in parts, with their keys.
pub fn parts(of: GenerationId, content: &[u8]) -> impl Iterator<Item = (Key, &[u8])> {
    let count = content.len().div_ceil(PART);
    content.chunks(PART).enumerate().map(move |(number, part)| (Key::Part { of, number, count }, part))
}

/// Keys, counted up.
#[derive(Debug, Default)]
pub struct Tally {
    heads: BTreeSet<GenerationId>,
    /// By generation and number of parts, those that are there.
    parts: BTreeMap<(GenerationId, usize), BTreeSet<usize>>,
    records: BTreeSet<(GenerationId, RecordId)>,
}

impl Tally {
    /// There is this key.
    pub fn count(&mut self, key: Key) {
        match key {
            Key::Head(id) => {
                self.heads.insert(id);
            }
            Key::Part { of, number, count } => {
                self.parts.entry((of, count)).or_default().insert(number);
            }
            Key::Record { about, id } => {
                self.records.insert((about, id));
            }
        }
    }

    /// In how many parts a content is there, whole; `None`: it is not.
    pub fn whole(&self, id: GenerationId) -> Option<usize> {
        let all = self.parts.range((id, 0)..=(id, MOST_PARTS));
        all.filter(|((_, count), parts)| parts.len() == *count).map(|((_, count), _)| *count).next()
    }

    /// What that comes to.
    pub fn listing(&self) -> Listing {
        let heads = self.heads.iter().map(|id| (*id, self.whole(*id).is_some()));
        Listing { generations: heads.collect(), records: self.records.clone() }
    }
}

const GENERATIONS: &str = "generations";

const CONTENTS: &str = "contents";

const RECORDS: &str = "records";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> GenerationId {
        GenerationId::from_bytes([number; 32])
    }

    fn keys() -> impl Strategy<Value = Key> {
        let record = |about, id| Key::Record { about, id: RecordId::from_bytes([id; 32]) };
        prop_oneof![
            any::<u8>().prop_map(|number| Key::Head(id(number))),
            (any::<u8>(), 0..MOST_PARTS, 1..=MOST_PARTS)
                .prop_filter("a part of so many", |(_, number, count)| number < count)
                .prop_map(|(of, number, count)| Key::Part { of: id(of), number, count }),
            (any::<u8>(), any::<u8>()).prop_map(move |(about, of)| record(id(about), of)),
        ]
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_what_it_was_made_from_and_lies_in_its_ranges(key in keys()) {
            let prefix = Prefix::new("/a/b");
            let text = prefix.key(key);
            prop_assert_eq!(prefix.read(text.as_bytes()), Some(key));
            prop_assert_eq!(Prefix::new("/a").read(text.as_bytes()), None);
            let range = match key {
                Key::Head(id) => prefix.head(id),
                Key::Part { of, .. } => prefix.contents(of),
                Key::Record { about, .. } => prefix.records(about),
            };
            for range in [range, prefix.all(), only(text.clone())] {
                prop_assert!(range.contains(&text.clone().into_bytes()));
            }
            prop_assert!(!Prefix::new("/a/").all().contains(&text.into_bytes()));
        }

        #[test]
        fn any_bytes_are_a_key_of_one_spelling_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let prefix = Prefix::new("");
            let bytes = [b"/contents/".to_vec(), bytes].concat();
            if let Some(key) = prefix.read(&bytes) {
                prop_assert_eq!(prefix.key(key).into_bytes(), bytes);
            }
        }

        #[test]
        fn parts_come_together_again_and_only_all_of_them_are_whole(
            length in 1..3 * PART, missing in proptest::option::of(0..3_usize),
        ) {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut tally = Tally::default();
            tally.count(Key::Head(id(1)));
            let (mut again, mut kept) = (Vec::new(), 0);
            for (number, (key, part)) in parts(id(1), &content).enumerate() {
                prop_assert!(part.len() <= PART);
                again.extend_from_slice(part);
                if Some(number) != missing {
                    tally.count(key);
                    kept += 1;
                }
            }
            prop_assert_eq!(again.len(), content.len());
            prop_assert!(again == content);
            let count = length.div_ceil(PART);
            prop_assert_eq!(tally.whole(id(1)), (kept == count).then_some(count));
            prop_assert_eq!(tally.listing().generations, [(id(1), kept == count)].into());
        }
    }

    #[test]
    fn what_is_no_key_of_ours_is_none() {
        let prefix = Prefix::new("/rollcall");
        let name = id(7).to_string();
        for text in [
            String::new(),
            "/rollcall".to_owned(),
            format!("/rollcall/generations/{}", &name[1..]),
            format!("/rollcall/generations/{}", name.to_uppercase().replace('0', "A")),
            format!("/rollcall/generations/{name}/"),
            format!("/rollcall/contents/{name}/1-2"),
            format!("/rollcall/contents/{name}/02-02"),
            format!("/rollcall/contents/{name}/00-17"),
            format!("/rollcall/contents/{name}/00-99999999999999999999"),
            format!("/rollcall/records/{name}"),
            format!("/rollcall/others/{name}"),
            format!("/rollcall2/generations/{name}"),
        ] {
            assert_eq!(prefix.read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn parts_of_two_ways_to_cut_a_content_are_not_mixed() {
        let mut tally = Tally::default();
        for (number, count) in [(0, 2), (1, 3), (2, 3)] {
            tally.count(Key::Part { of: id(1), number, count });
        }
        assert_eq!(tally.whole(id(1)), None);
        tally.count(Key::Part { of: id(1), number: 1, count: 2 });
        assert_eq!(tally.whole(id(1)), Some(2));
        // Without its header nobody knows of it.
        assert_eq!(tally.listing(), Listing::default());
    }
}
