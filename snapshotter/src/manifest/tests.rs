use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use corten_disk::Disk;
use corten_types::ErrorKind;

use super::writer::Writer;
use super::{Entry, PATH_LIMIT_BYTES, Reader};

/// The smallest amount after which a run is written: every few records.
const TINY_RUN_BYTES: usize = 300;

fn read(path: &Path) -> Vec<(String, String)> {
    let mut reader = Reader::open(path).unwrap();
    let mut found = Vec::new();
    while let Some((path, entry)) = reader.next_entry().unwrap() {
        found.push((String::from_utf8(path.to_vec()).unwrap(), format!("{entry:?}")));
    }
    assert_eq!(found.len() as u64, reader.seal().entries);
    found
}

fn write(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// A generator that is good enough to choose what to do, with a printed seed.
struct Choice(u64);

impl Choice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a tree is after all that happened to it.
#[derive(Default)]
struct Model(BTreeMap<String, String>);

impl Model {
    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|known, _| known != path && !known.starts_with(&below));
    }

    fn put(&mut self, path: &str, entry: Entry<'_>) {
        if entry != Entry::Folder {
            self.remove(path);
        }
        self.0.insert(path.to_owned(), format!("{entry:?}"));
    }

    /// In the order of a walk.
    fn sorted(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.0.clone().into_iter().collect();
        all.sort_by_key(|(path, _)| path.replace('/', "\0"));
        all
    }
}

#[test]
fn whatever_happens_to_paths_the_manifest_tells_what_is_left() {
    for seed in 0..300 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest");
        let mut choice = Choice(seed);
        let mut model = Model::default();
        let mut writer = Writer::create_with(&Disk::new(), &path, TINY_RUN_BYTES).unwrap();
        for step in 0..choice.below(120) {
            let depth = 1 + choice.below(4);
            let names = ["a", "a-b", "b", "c.d"];
            let parts: Vec<&str> =
                (0..depth).map(|_| names[usize::try_from(choice.below(4)).unwrap()]).collect();
            let name = parts.join("/");
            match choice.below(6) {
                0 => {
                    writer.remove(name.as_bytes());
                    model.remove(&name);
                }
                1 | 2 => {
                    writer.put(name.as_bytes(), Entry::Folder);
                    model.put(&name, Entry::Folder);
                }
                _ => {
                    let entry = Entry::File { size_bytes: step, checksum: u32::try_from(seed).unwrap() };
                    writer.put(name.as_bytes(), entry);
                    model.put(&name, entry);
                }
            }
        }
        writer.seal().unwrap();
        assert_eq!(read(&path), model.sorted(), "seed {seed}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest");
    let mut writer = Writer::create(&Disk::new(), &path).unwrap();
    writer.put(b"etc", Entry::Folder);
    writer.put(b"etc/hosts", Entry::File { size_bytes: 9, checksum: 1 });
    writer.put(b"etc/link", Entry::symlink(b"hosts"));
    writer.seal().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let damaged = |bytes: &[u8]| {
        write(&path, bytes);
        match Reader::open(&path) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::DataLoss),
            Ok(_) => panic!("nobody noticed"),
        }
    };
    for index in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[index] ^= 1;
        damaged(&flipped);
        damaged(&whole[..index]);
    }
    write(&path, &whole);
    assert_eq!(read(&path).len(), 3);
}

#[test]
fn records_that_make_no_sense_are_damage_also_under_a_right_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest");
    let numbers = |entries: u64| [entries.to_le_bytes(), 0_u64.to_le_bytes()].concat();
    let records: [&[u8]; 5] = [
        // More of the path before it than there is.
        &[9, 1, b'a', 1],
        // No such kind.
        &[0, 1, b'a', 99],
        // It ends in the middle.
        &[0, 200],
        // Nothing at all.
        &[],
        // A length of more than 64 bits.
        &[0xff; 40],
    ];
    for record in records {
        let mut bytes = [super::writer::HEADER, record, &numbers(1)].concat();
        let sum = super::checksum(0, &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        write(&path, &bytes);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.next_entry().unwrap_err().kind(), ErrorKind::DataLoss, "{record:?}");
    }
}

#[test]
fn a_path_at_the_limit_is_kept_and_one_past_it_refuses_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest");
    let long = "x".repeat(PATH_LIMIT_BYTES);
    let mut writer = Writer::create(&Disk::new(), &path).unwrap();
    writer.put(long.as_bytes(), Entry::Folder);
    writer.put(b"y", Entry::HardLink { target: long.as_bytes() });
    writer.seal().unwrap();
    assert_eq!(read(&path)[0].0, long);
    for (name, target) in [(format!("{long}x"), "a".to_owned()), ("a".to_owned(), format!("{long}x"))] {
        let mut writer = Writer::create(&Disk::new(), &path).unwrap();
        writer.put(name.as_bytes(), Entry::HardLink { target: target.as_bytes() });
        assert_eq!(writer.seal().unwrap_err().kind(), ErrorKind::Unimplemented);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the old one stays, and nothing else");
}

#[test]
fn a_file_that_is_replaced_in_a_layer_with_hard_links_has_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let file = Entry::File { size_bytes: 1, checksum: 1 };
    let build = |has_link: bool, replace: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::create(&Disk::new(), &folder.path().join("manifest")).unwrap();
        writer.put(b"a", Entry::Folder);
        writer.put(b"a/first", file);
        if has_link {
            writer.put(b"second", Entry::HardLink { target: b"a/first" });
        }
        replace(&mut writer);
        writer.seal()
    };
    let replacements: [&dyn Fn(&mut Writer); 3] =
        [&|writer| writer.put(b"a/first", file), &|writer| writer.remove(b"a/first"), &|writer| {
            writer.put(b"a", Entry::Fifo)
        }];
    for replace in replacements {
        assert_eq!(build(true, replace).unwrap_err().kind(), ErrorKind::Unimplemented);
        build(false, replace).unwrap();
    }
    build(true, &|writer| writer.put(b"a", Entry::Folder)).unwrap();
}
