use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use corten_disk::Disk;
use corten_snapshotter::manifest::{Change, Entry, Finding, Reader, Writer, checksum, verify};
use corten_types::ErrorKind;
use rustix::fs::{CWD, FileType, Mode};

/// A tree with one of each kind, and its manifest beside it.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { folder };
        let tree = fixture.tree();
        let mut writer = Writer::create(&Disk::new(), &fixture.manifest()).unwrap();
        for name in ["", "bin", "etc", "etc/deep", "etc/deep/deeper", "etc-late"] {
            std::fs::create_dir(tree.join(name)).unwrap();
            if !name.is_empty() {
                writer.put(name.as_bytes(), Entry::Folder);
            }
        }
        for (name, length) in [("bin/tool", 700_000), ("etc/deep/deeper/file", 5), ("etc/empty", 0)] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            File::create(tree.join(name)).unwrap().write_all(&bytes).unwrap();
            let entry = Entry::File { size_bytes: length, checksum: checksum(0, &bytes) };
            writer.put(name.as_bytes(), entry);
        }
        std::fs::hard_link(tree.join("bin/tool"), tree.join("bin/same")).unwrap();
        writer.put(b"bin/same", Entry::HardLink { target: b"bin/tool" });
        std::os::unix::fs::symlink("deep/deeper", tree.join("etc/link")).unwrap();
        writer.put(b"etc/link", Entry::symlink(b"deep/deeper"));
        rustix::fs::mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        writer.put(b"fifo", Entry::Fifo);
        writer.seal().unwrap();
        fixture
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("fs")
    }

    fn manifest(&self) -> PathBuf {
        self.folder.path().join("manifest")
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let verified = verify(&self.manifest(), &self.tree(), &mut |finding| {
            findings.push(finding.to_string());
            ControlFlow::Continue(())
        });
        assert!(verified.unwrap().is_complete);
        findings
    }
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_tree_that_did_not_change_has_no_findings() {
    let fixture = Fixture::new();
    assert_eq!(fixture.findings(), [""; 0]);
    let verified = verify(&fixture.manifest(), &fixture.tree(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((verified.entries, verified.read_bytes), (11, 700_005));
}

#[test]
fn every_kind_of_change_is_told_with_its_path() {
    type Harm = fn(&Path);
    let harms: [(Harm, &[&str]); 14] = [
        (|tree| overwrite(&tree.join("bin/tool"), 650_000, b"x"), &["bin/tool has other bytes than it had"]),
        (|tree| overwrite(&tree.join("etc/empty"), 0, b"x"), &["etc/empty has 1 bytes instead of 0"]),
        (
            |tree| File::options().write(true).open(tree.join("bin/tool")).unwrap().set_len(9).unwrap(),
            &["bin/tool has 9 bytes instead of 700000"],
        ),
        (|tree| std::fs::remove_file(tree.join("etc/empty")).unwrap(), &["etc/empty is missing"]),
        (|tree| std::fs::remove_file(tree.join("fifo")).unwrap(), &["fifo is missing"]),
        (|tree| std::fs::remove_dir_all(tree.join("etc")).unwrap(), &["etc is missing"]),
        (|tree| std::fs::remove_dir(tree.join("etc-late")).unwrap(), &["etc-late is missing"]),
        (|tree| drop(File::create(tree.join("etc/new")).unwrap()), &["etc/new is not from the layer"]),
        (|tree| std::fs::create_dir_all(tree.join("a/b/c")).unwrap(), &["a is not from the layer"]),
        (
            |tree| {
                std::fs::remove_dir_all(tree.join("etc/deep")).unwrap();
                File::create(tree.join("etc/deep")).unwrap();
            },
            &["etc/deep is something else than it was"],
        ),
        (
            |tree| {
                std::fs::remove_file(tree.join("etc/empty")).unwrap();
                std::fs::create_dir_all(tree.join("etc/empty/inside")).unwrap();
            },
            &["etc/empty is something else than it was"],
        ),
        (
            |tree| {
                std::fs::remove_file(tree.join("etc/link")).unwrap();
                std::os::unix::fs::symlink("deep/deepex", tree.join("etc/link")).unwrap();
            },
            &["etc/link points elsewhere than it did"],
        ),
        (
            |tree| {
                std::fs::remove_file(tree.join("bin/same")).unwrap();
                std::fs::copy(tree.join("bin/tool"), tree.join("bin/same")).unwrap();
            },
            &["bin/same is not the file that it was linked to"],
        ),
        (
            |tree| Disk::new().rename(&tree.join("bin"), &tree.join("bin2")).unwrap(),
            &["bin is missing", "bin2 is not from the layer"],
        ),
    ];
    for (harm, expected) in harms {
        let fixture = Fixture::new();
        harm(&fixture.tree());
        assert_eq!(fixture.findings(), expected);
    }
}

#[test]
fn a_sink_that_has_enough_stops_the_comparison() {
    let fixture = Fixture::new();
    for name in ["bin/tool", "etc/empty", "fifo"] {
        std::fs::remove_file(fixture.tree().join(name)).unwrap();
    }
    let mut count = 0;
    let verified = verify(&fixture.manifest(), &fixture.tree(), &mut |finding| {
        assert!(matches!(finding, Finding::Changed(_, Change::Link) | Finding::Missing(_)), "{finding}");
        count += 1;
        if count == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(!verified.unwrap().is_complete);
    assert_eq!(count, 2);
}

#[test]
fn what_is_not_there_is_not_found_and_nothing_changes() {
    let fixture = Fixture::new();
    let missing = fixture.folder.path().join("missing");
    let ask = |manifest: &Path, tree: &Path| {
        verify(manifest, tree, &mut |_| ControlFlow::Continue(())).unwrap_err().kind()
    };
    assert_eq!(ask(&missing, &fixture.tree()), ErrorKind::NotFound);
    assert_eq!(ask(&fixture.manifest(), &missing), ErrorKind::NotFound);
}

#[test]
fn a_folder_deeper_than_any_path_may_be_is_walked() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("manifest");
    let mut writer = Writer::create(&Disk::new(), &manifest).unwrap();
    let name = "d".repeat(200);
    let mut here = rustix::fs::open(folder.path(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut path = Vec::new();
    for _ in 0..100 {
        rustix::fs::mkdirat(&here, name.as_str(), Mode::RWXU).unwrap();
        here =
            rustix::fs::openat(&here, name.as_str(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        if path.len() > name.len() {
            writer.put(&path[name.len() + 1..], Entry::Folder);
        }
    }
    writer.seal().unwrap();
    let tree = folder.path().join(&name);
    let verified = verify(&manifest, &tree, &mut |finding| panic!("{finding}")).unwrap();
    assert_eq!(verified.entries, 99);
}

#[test]
fn three_hundred_thousand_entries_come_back_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest");
    let mut writer = Writer::create(&Disk::new(), &path).unwrap();
    let count = 300_000_u64;
    for index in 0..count {
        // Far apart from one another, so that every run has some of everything.
        let number = index * 7919 % count;
        let name = format!("usr/share/folder-{:03}/a-file-with-a-name-{number}", number % 1000);
        writer.put(name.as_bytes(), Entry::File { size_bytes: number, checksum: 0 });
    }
    let seal = writer.seal().unwrap();
    assert_eq!((seal.entries, seal.file_bytes), (count, count * (count - 1) / 2));
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.seal(), seal);
    let mut last = Vec::new();
    let mut seen = 0;
    while let Some((path, _)) = reader.next_entry().unwrap() {
        assert!(last.as_slice() < path, "{}", Path::new(std::ffi::OsStr::from_bytes(path)).display());
        last = path.to_vec();
        seen += 1;
    }
    assert_eq!(seen, count);
    assert!(path.metadata().unwrap().len() < 20 * count, "shared beginnings are not written again");
}
