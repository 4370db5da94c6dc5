//! A disk that is really full.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use corten_database::{Database, Options};
use corten_types::ErrorKind;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::support::{SCHEMA, folder, open, put};

/// A filesystem of 3 MB in memory, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Self {
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=3m").unwrap();
        Self(path.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Takes what is left of the disk.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(Instant::now() < deadline, "waited 60 s for {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let must = std::env::var_os("CORTEN_TEST_ROOT").is_some_and(|value| value == "1");
    assert!(is_root || !must, "CORTEN_TEST_ROOT=1 needs root");
    is_root
}

#[test]
fn on_a_full_disk_creations_are_refused_and_deletions_get_the_reserve() {
    if !is_root() {
        println!("skipped: needs root");
        return;
    }
    let folder = folder();
    let small = SmallDisk::mount(folder.path());
    let path = folder.path().join("db");
    let options = Options { migrations: SCHEMA, reserve_bytes: 512 << 10, ..Options::default() };
    let (database, _) = Database::open(&path, options).unwrap();
    assert_eq!(path.with_file_name("db.reserve").metadata().unwrap().len(), 512 << 10);
    let mut stored = 0_i64;
    let error = loop {
        let text = "x".repeat(20_000);
        let answer = database.write(move |connection| {
            connection.execute("INSERT INTO pair VALUES (?1, ?2)", (stored, &text))?;
            Ok(())
        });
        match answer.wait() {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk never fills");
    };
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    fill(&folder.path().join("ballast"));
    let small_ones = (0..100).find_map(|number| put(&database, 10_000 + number).wait().err());
    assert_eq!(small_ones.unwrap().kind(), ErrorKind::ResourceExhausted);
    assert!(stored > 20 && database.statistics().reserve_used == 0, "{stored}");
    let removed = database
        .write_freeing(
            |connection| Ok(connection.execute("DELETE FROM pair WHERE number % 2 = 1", [])?),
            |_| (),
        )
        .wait()
        .unwrap();
    assert!(i64::try_from(removed).unwrap() >= stored / 2, "everything acknowledged was there");
    assert_eq!(database.statistics().reserve_used, 1);
    put(&database, 1).wait().unwrap();
    // Room comes back, and nothing is written: the reserve is made again, and not only after a restart.
    mount_remount(folder.path(), MountFlags::empty(), c"size=8m").unwrap();
    wait_for(&path.with_file_name("db.reserve"));
    drop(database);
    std::fs::remove_file(path.with_file_name("db.reserve")).unwrap();
    mount_remount(folder.path(), MountFlags::empty(), c"size=9m").unwrap();
    let (database, report) = open(&path);
    assert!(report.health.is_healthy(), "{report:?}");
    assert!(path.with_file_name("db.reserve").exists(), "space is back, and so is the reserve");
    drop(database);
    drop(small);
}
