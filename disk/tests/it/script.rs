//! The script: counting, failing, cutting the power.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use corten_disk::{
    Disk,
    testing::{Fault, Script, Unsynced},
};

/// Every file below `root` and what it holds.
fn content(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.insert(name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
            }
        }
    }
    found
}

fn after_loss(script: &Script, unsynced: Unsynced) -> BTreeMap<String, String> {
    let target = tempfile::tempdir().unwrap();
    script.after_power_loss(unsynced, target.path()).unwrap();
    content(target.path())
}

fn files(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn only_what_was_synced_is_sure_to_survive() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::never_fails(root.path());
    let disk = script.disk();
    let mut file = disk.create_new(&root.path().join("a"), 0o644).unwrap();
    file.append(b"synced").unwrap();
    file.sync_data().unwrap();
    disk.sync_folder(root.path()).unwrap();
    file.append(b" and not").unwrap();
    disk.create_new(&root.path().join("b"), 0o644).unwrap().append(b"lost").unwrap();
    assert_eq!(after_loss(&script, Unsynced::Kept), files(&[("a", "synced and not"), ("b", "lost")]));
    assert_eq!(after_loss(&script, Unsynced::Dropped), files(&[("a", "synced")]));
    assert_eq!(after_loss(&script, Unsynced::NamesOnly), files(&[("a", "synced"), ("b", "")]));
    assert!(file.append(b"more").is_err(), "the power is off");
}

#[test]
fn a_rename_is_whole_or_absent_and_a_sync_of_either_folder_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("old")).unwrap();
    fs::create_dir(root.path().join("new")).unwrap();
    fs::write(root.path().join("old/x"), "text").unwrap();
    let script = Script::never_fails(root.path());
    let disk = script.disk();
    disk.rename(&root.path().join("old/x"), &root.path().join("new/y")).unwrap();
    disk.sync_folder(&root.path().join("new")).unwrap();
    assert_eq!(after_loss(&script, Unsynced::Dropped), files(&[("new/y", "text")]));
}

#[test]
fn bytes_whose_sync_failed_are_not_kept_by_a_later_sync() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    let script = Script::fails_at(root.path(), 2, Fault::Io);
    let disk = script.disk();
    let mut file = disk.create_new(&path, 0o644).unwrap();
    file.append(b"gone").unwrap();
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    assert!(script.has_fired());
    file.sync_data().unwrap();
    disk.sync_folder(root.path()).unwrap();
    assert_eq!(after_loss(&script, Unsynced::Dropped), files(&[("a", "")]));
    assert_eq!(after_loss(&script, Unsynced::Kept), files(&[("a", "gone")]));
}

#[test]
fn a_full_disk_takes_half_of_a_write() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::fails_at(root.path(), 1, Fault::Full);
    let mut file = script.disk().create_new(&root.path().join("a"), 0o644).unwrap();
    let error = file.append(b"12345678").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.length_bytes(), 4);
    file.set_length(0).unwrap();
    file.append(b"after").unwrap();
    assert_eq!(after_loss(&script, Unsynced::Kept), files(&[("a", "after")]));
}

#[test]
fn files_made_beside_the_seam_are_kept_by_a_sync_of_the_filesystem_only() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::never_fails(root.path());
    let disk = script.disk();
    let watch = disk.filesystem_sync(root.path()).unwrap();
    fs::create_dir(root.path().join("tree")).unwrap();
    fs::write(root.path().join("tree/file"), "1").unwrap();
    watch.sync().unwrap();
    fs::write(root.path().join("tree/late"), "2").unwrap();
    assert_eq!(after_loss(&script, Unsynced::Dropped), files(&[("tree/file", "1")]));
    assert_eq!(after_loss(&script, Unsynced::Kept), files(&[("tree/file", "1"), ("tree/late", "2")]));
}

#[test]
fn a_tree_that_is_being_removed_may_survive_in_part() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("tree")).unwrap();
    for number in 0..8 {
        fs::write(root.path().join(format!("tree/{number}")), "x").unwrap();
    }
    let script = Script::never_fails(root.path());
    script.disk().remove_dir_all(&root.path().join("tree")).unwrap();
    assert_eq!(after_loss(&script, Unsynced::Dropped).len(), 8);
    assert!(after_loss(&script, Unsynced::Kept).is_empty());
    let counts: Vec<usize> = (0..32).map(|seed| after_loss(&script, Unsynced::Torn(seed)).len()).collect();
    assert!(counts.iter().any(|count| (1..8).contains(count)), "{counts:?}");
}

/// The scenario of the sweep: a file is replaced twice.
fn replace_twice(disk: &Disk, root: &Path) -> io::Result<()> {
    disk.replace_file(&root.join("state"), b"one", 0o600)?;
    disk.replace_file(&root.join("state"), b"two", 0o600)
}

#[test]
fn a_replaced_file_survives_every_failure_and_every_power_cut() {
    let sweep = |make: &dyn Fn(&Path, usize) -> Arc<Script>, count: usize| {
        for number in 0..count {
            let root = tempfile::tempdir().unwrap();
            let script = make(root.path(), number);
            replace_twice(&script.disk(), root.path()).expect_err("the failure was noticed");
            for unsynced in Unsynced::ALL {
                let found = after_loss(&script, unsynced);
                let allowed: &[Option<&str>] =
                    if number < count / 2 { &[None, Some("one")] } else { &[Some("one"), Some("two")] };
                let state = found.get("state").map(String::as_str);
                assert!(allowed.contains(&state), "{unsynced:?} at {number}: {state:?}\n{:#?}", script.log());
            }
        }
    };
    let root = tempfile::tempdir().unwrap();
    let counter = Script::never_fails(root.path());
    replace_twice(&counter.disk(), root.path()).unwrap();
    let count = counter.operation_count();
    assert!(count >= 10, "too small to prove anything: {:#?}", counter.log());
    sweep(&|root, number| Script::cuts_power_at(root, number), count);
    sweep(&|root, number| Script::fails_at(root, number, Fault::Io), count);
    sweep(&|root, number| Script::fails_at(root, number, Fault::Full), count);
}

#[test]
fn the_sweep_finds_a_missing_sync() {
    let careless = |disk: &Disk, root: &Path| -> io::Result<()> {
        disk.create_new(&root.join("draft"), 0o600)?.append(b"text")?;
        disk.rename(&root.join("draft"), &root.join("state"))?;
        disk.sync_folder(root)
    };
    let root = tempfile::tempdir().unwrap();
    let script = Script::never_fails(root.path());
    careless(&script.disk(), root.path()).unwrap();
    assert_eq!(after_loss(&script, Unsynced::Dropped), files(&[("state", "")]));
}
