use std::fs;

use super::*;
use crate::archive::{Header, Writer};

fn archive(names: impl Iterator<Item = String>) -> (Vec<u8>, u64) {
    let mut writer = Writer::new(Vec::new());
    let mut count = 0;
    for name in names {
        let header = Header::new(EntryKind::File, name);
        writer.write_header(&header).unwrap();
        count += 1;
    }
    (writer.finish().unwrap(), count)
}

/// How many files and components were looked at to unpack `archive` into a target that is not empty.
fn work(archive: &[u8]) -> u64 {
    // Memory, where there is some: these tests make very many files.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::create_dir_all(folder.path().join("d/lower")).unwrap();
    let options = UnpackOptions { same_owner: false, ..UnpackOptions::default() };
    let mut reader = Reader::new(archive);
    let root = Root::open(folder.path()).unwrap();
    let mut unpacker = Unpacker::new(root, &options, Told(None), None).unwrap();
    while let Some(entry) = reader.next_entry().unwrap() {
        unpacker.add(entry, &mut reader).unwrap();
    }
    unpacker.layer.looked_at + unpacker.root.steps
}

/// GHSA-rp3h-jf77-q9p4: the time to unpack grew with the square of the number of opaque markers.
#[test]
fn ghsa_rp3h_jf77_q9p4_markers_in_one_directory_cost_no_more_than_their_number() {
    let names = (0..3000).flat_map(|number| [format!("d/f{number}"), "d/.wh..wh..opq".to_owned()]);
    let (archive, count) = archive(names);
    assert!(work(&archive) < 2 * count);
}

#[test]
fn markers_inside_each_other_cost_no_more_than_their_number() {
    let marker = |depth: usize| format!("{}.wh..wh..opq", "d/".repeat(depth));
    for names in [(1..300).map(marker).collect::<Vec<_>>(), (1..300).rev().map(marker).collect()] {
        // Every name is as long as its depth, and each of its components may be looked at once.
        let components: usize = names.iter().map(|name| name.split('/').count()).sum();
        let (archive, count) = archive(names.into_iter());
        assert!(work(&archive) < components as u64 + 2 * count);
    }
}

#[test]
fn a_deep_directory_that_is_missing_costs_its_depth_once_a_name() {
    let (archive, count) = archive((0..200).map(|number| format!("{}n{number}/f", "d/".repeat(100))));
    assert!(work(&archive) < 110 * count);
}

/// How many entries the largest archive of the next test has; 300,000 take a while.
fn many() -> usize {
    std::env::var("CORTEN_TEST_ENTRIES").map_or(20_000, |entries| entries.parse().unwrap())
}

#[test]
fn work_grows_with_the_entries_and_not_faster() {
    type Names = fn(usize) -> Vec<String>;
    let shapes: [(&str, Names); 3] = [
        ("files", |number| vec![format!("d/f{number}")]),
        ("a marker a folder", |number| vec![format!("d/m{number}/f"), format!("d/m{number}/.wh..wh..opq")]),
        ("a marker before each file", |number| vec!["d/.wh..wh..opq".into(), format!("d/f{number}")]),
    ];
    for (shape, names) in shapes {
        let per_entry = |count: usize| {
            let (archive, entries) = archive((0..count).flat_map(names));
            work(&archive) as f64 / entries as f64
        };
        let (few, very_many) = (per_entry(1000), per_entry(many()));
        assert!(very_many <= few * 1.1 + 0.1, "{shape}: {few} an entry, then {very_many}");
    }
}

#[test]
fn open_directories_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let mut root = Root::open(folder.path()).unwrap();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for number in 0..3 * root::MAX_OPEN_DIRECTORIES {
        root.directory(format!("d{number}").as_bytes(), |_| Ok(())).unwrap();
    }
    // Other tests of this process open some too.
    assert!(descriptors() < before + 2 * root::MAX_OPEN_DIRECTORIES);
}
