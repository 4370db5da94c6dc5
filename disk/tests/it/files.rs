//! Files, names and filesystems without a seam.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Barrier},
    thread,
};

use corten_disk::Disk;

#[test]
fn a_file_is_written_at_its_end_and_in_its_middle() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let disk = Disk::new();
    let mut file = disk.create_new(&path, 0o600).unwrap();
    file.start_write_back_every(4);
    file.append(b"hello ").unwrap();
    file.write_all(b"world").unwrap();
    file.write_all_at(b"J", 0).unwrap();
    file.append(b"").unwrap();
    file.append_pieces(&[b"", &b""[..]]).unwrap();
    assert_eq!(file.length_bytes(), 11);
    file.set_mode(0o444).unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"Jello world");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
}

#[test]
fn an_opened_file_goes_on_at_its_end_and_can_be_cut() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let disk = Disk::new();
    disk.create_new(&path, 0o600).unwrap().append(b"12345678").unwrap();
    let mut file = disk.open_append(&path).unwrap();
    assert_eq!(file.length_bytes(), 8);
    file.set_length(4).unwrap();
    file.append(b"x").unwrap();
    file.sync_data().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"1234x");
    assert_eq!(file.path(), path);
}

#[test]
fn creating_what_exists_and_opening_what_does_not_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    let disk = Disk::new();
    assert_eq!(disk.open_append(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    disk.create_new(&path, 0o600).unwrap();
    assert_eq!(disk.create_new(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(disk.hard_link(&path, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn folders_are_made_with_their_parents_and_removed_with_their_content() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("a/b/c");
    let disk = Disk::new();
    disk.create_dir_all(&deep, 0o755).unwrap();
    disk.create_dir_all(&deep, 0o755).unwrap();
    disk.create_new(&deep.join("file"), 0o600).unwrap();
    disk.hard_link(&deep.join("file"), &deep.join("other")).unwrap();
    disk.rename(&deep.join("other"), &root.path().join("moved")).unwrap();
    disk.remove_dir_all(&root.path().join("a")).unwrap();
    disk.remove_file(&root.path().join("moved")).unwrap();
    disk.sync_folder(root.path()).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn replacing_a_file_also_replaces_a_draft_that_a_crash_left() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let disk = Disk::new();
    disk.replace_file(&path, b"one", 0o600).unwrap();
    disk.create_new(&root.path().join("state.new"), 0o600).unwrap().append(b"half of a longer one").unwrap();
    disk.replace_file(&path, b"two", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn syncs_of_one_filesystem_at_the_same_time_share_calls() {
    const CALLERS: usize = 16;
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let watch = Arc::new(disk.filesystem_sync(root.path()).unwrap());
    let start = Arc::new(Barrier::new(CALLERS));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (watch, start, disk) = (Arc::clone(&watch), Arc::clone(&start), disk.clone());
            let path = root.path().join(number.to_string());
            thread::spawn(move || {
                let own = disk.filesystem_sync(path.parent().unwrap()).unwrap();
                disk.create_new(&path, 0o600).unwrap().append(b"data").unwrap();
                start.wait();
                watch.sync().unwrap();
                own.sync().unwrap();
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let done = watch.syncs_done();
    assert!((2..=2 * CALLERS as u64).contains(&done), "{done} calls for {} requests", 2 * CALLERS);
}

#[test]
fn a_filesystem_says_how_much_room_it_has() {
    let root = tempfile::tempdir().unwrap();
    let space = corten_disk::space(root.path()).unwrap();
    assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes, "{space:?}");
    assert!(corten_disk::space(&root.path().join("missing")).is_err());
}

#[test]
fn pieces_are_written_in_their_order_however_many_there_are() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    let mut file = Disk::new().create_new(&path, 0o600).unwrap();
    file.append(b"begin ").unwrap();
    let pieces: Vec<String> =
        (0..5000).map(|number| if number == 7 { String::new() } else { number.to_string() }).collect();
    file.append_pieces(&pieces).unwrap();
    file.append(b" end").unwrap();
    let expected = format!("begin {} end", pieces.concat());
    assert_eq!(file.length_bytes(), expected.len() as u64);
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}
