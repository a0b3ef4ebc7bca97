//! What the disk holds after a crash, damage and a full disk.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::shared::generation::tests::generation;
use crate::shared::record::tests::record;

/// A folder that goes with its test.
pub(in crate::shared) struct Folder(pub(in crate::shared) PathBuf);

impl Folder {
    pub(in crate::shared) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rollcall-store-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ALL: &[u8] = &[1, 2];

/// A store with so many generations in force, one after the other.
fn filled(folder: &Folder, count: usize) -> (Store, Vec<Generation>) {
    let first = generation(None, 1, ALL, "0");
    let store = Store::create(&folder.0, &first, &[record(first.id(), Word::InForce, 1)]).unwrap();
    let mut all = vec![first];
    for number in 1..count {
        let next = generation(all.last().map(|last| &last.head), 2, ALL, &number.to_string());
        store.keep(&next.head, Some(&next.content)).unwrap();
        store.keep_record(&record(next.id(), Word::InForce, 2)).unwrap();
        all.push(next);
    }
    (store, all)
}

fn current(folder: &Folder) -> (Option<GenerationId>, usize) {
    let opened = Store::open(&folder.0).unwrap();
    (opened.history.current().map(SignedHeader::id), opened.damage.len())
}

#[test]
fn what_was_kept_is_there_after_a_start() {
    let folder = Folder::new();
    assert!(!Store::exists(&folder.0));
    let (_, all) = filled(&folder, 5);
    assert!(Store::exists(&folder.0));
    let opened = Store::open(&folder.0).unwrap();
    assert_eq!(opened.history.current_whole().as_ref(), all.last());
    assert_eq!(opened.history.log().len(), 5);
    assert_eq!(opened.damage.len(), 0, "{:?}", opened.damage);
    let again = Store::create(&folder.0, &all[0], &[]);
    assert!(matches!(again, Err(StoreError::Exists { .. })));
}

#[test]
fn a_crash_at_any_byte_leaves_what_was_there() {
    let folder = Folder::new();
    let (store, all) = filled(&folder, 2);
    let last = all.last().unwrap();
    let next = generation(Some(&last.head), 1, ALL, "next");
    let new = store.path_of(next.id()).with_extension(NEW);
    let bytes = next.encode();
    for cut in (0..=bytes.len()).step_by(7) {
        fs::write(&new, &bytes[..cut]).unwrap();
        assert_eq!(current(&folder), (Some(last.id()), 0), "after {cut} bytes");
        assert!(new.exists(), "the agent may be writing it");
        store.sweep();
        assert!(!new.exists(), "it is swept up");
    }
    // It is there, but the record that puts it in force is not yet.
    store.keep(&next.head, Some(&next.content)).unwrap();
    assert_eq!(current(&folder), (Some(last.id()), 0));
    store.keep_record(&record(next.id(), Word::InForce, 1)).unwrap();
    assert_eq!(current(&folder), (Some(next.id()), 0));
}

#[test]
fn a_damaged_file_is_left_out_and_the_newest_sound_one_stands() {
    let folder = Folder::new();
    let (store, all) = filled(&folder, 4);
    let paths: Vec<PathBuf> = all.iter().map(|of| store.path_of(of.id())).collect();
    for (damaged, stands) in [(3, 2), (1, 3), (0, 3)] {
        let sound = fs::read(&paths[damaged]).unwrap();
        for at in [0, 30, 200, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            fs::write(&paths[damaged], &bytes).unwrap();
            let (current, damage) = current(&folder);
            assert_eq!(current, Some(all[stands].id()), "generation {damaged}, byte {at}");
            assert!(damage > 0, "it is told");
        }
        fs::write(&paths[damaged], &sound).unwrap();
        assert_eq!(current(&folder), (Some(all[3].id()), 0), "and as before once it is mended");
    }
    // One under another's name.
    fs::copy(&paths[1], &paths[3]).unwrap();
    assert_eq!(current(&folder).0, Some(all[2].id()));
    paths.iter().for_each(|path| fs::write(path, "").unwrap());
    assert!(matches!(Store::open(&folder.0), Err(StoreError::Nothing { .. })));
}

#[test]
fn what_does_not_fit_on_the_disk_leaves_nothing_behind() {
    let folder = Folder::new();
    let (store, all) = filled(&folder, 2);
    let next = generation(Some(&all[1].head), 1, ALL, "next");
    // A folder in its place: it cannot be written there either.
    fs::create_dir(store.path_of(next.id())).unwrap();
    let refused = store.keep(&next.head, Some(&next.content)).unwrap_err();
    assert!(matches!(refused, StoreError::Write { .. }), "{refused}");
    assert!(!store.path_of(next.id()).with_extension(NEW).exists());
    assert_eq!(current(&folder).0, Some(all[1].id()));
}

#[test]
fn what_is_let_go_of_is_gone_after_a_start_and_the_rest_is_there() {
    let folder = Folder::new();
    let (store, all) = filled(&folder, 8);
    let mut history = Store::open(&folder.0).unwrap().history;
    let pruned = history.prune(2, 4);
    store.let_go(&pruned, &history).unwrap();
    let opened = Store::open(&folder.0).unwrap();
    assert_eq!(opened.damage.len(), 0, "{:?}", opened.damage);
    assert_eq!(opened.history.inventory(), history.inventory());
    assert_eq!(opened.history.current_whole().as_ref(), all.last());
    // Half done, as by a crash.
    let pruned = history.prune(1, 2);
    remove(&store.path_of(pruned.generations[0])).unwrap();
    assert_eq!(current(&folder).0, Some(all[7].id()));
}
