//! A writer of the one archive format that the kernel unpacks as its first file system: cpio, "newc".
//!
//! Written here rather than by `cpio`, because device files must get into it without anybody being root.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making. Paths are without a leading slash; the folders above them come by themselves.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Archive {
    /// A copy of the file `from`, executable; the first one that comes under a path stays.
    pub(super) fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
        self.add(path, PROGRAM, (0, 0), &content);
        Ok(())
    }

    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.add(path, CHARACTER_DEVICE, (major, minor), &[]);
    }

    pub(super) fn folder(&mut self, path: &str) {
        self.add(path, FOLDER, (0, 0), &[]);
    }

    /// The archive's bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        if !self.paths.insert(path.to_owned()) {
            return;
        }
        // The kernel makes no folder that is not in the archive before what is in it.
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, mode, device, content);
    }

    /// Documentation/driver-api/early-userspace/buffer-format.rst: a magic number and thirteen fields of eight hexadecimal
    /// digits, the name with a zero after it, the content; name and content padded to four bytes.
    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let (inode, links) = (self.paths.len(), 1);
        let (owner, group, time, on_major, on_minor, checksum) = (0, 0, 0, 0, 0, 0);
        let (size, name_size) = (content.len(), path.len() + 1);
        let header = format!(
            "070701{inode:08x}{mode:08x}{owner:08x}{group:08x}{links:08x}{time:08x}{size:08x}\
             {on_major:08x}{on_minor:08x}{major:08x}{minor:08x}{name_size:08x}{checksum:08x}{path}\0"
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_precede_what_is_in_them_and_entries_are_aligned() {
        let mut archive = Archive::default();
        archive.character_device("dev/ttyS1", 4, 65);
        let bytes = archive.finish();

        let text = String::from_utf8(bytes.clone()).unwrap();
        let starts: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        let names: Vec<&str> = starts.iter().map(|at| text[at + 110..].split('\0').next().unwrap()).collect();
        assert_eq!(names, ["dev", "dev/ttyS1", "TRAILER!!!"]);
        assert!(starts.iter().chain([&bytes.len()]).all(|at| at % 4 == 0), "{starts:?}");
        assert_eq!(&text[starts[1] + 78..starts[1] + 94], "0000000400000041", "the device's numbers");
    }
}
