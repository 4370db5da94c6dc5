//! Damaged, lost and exchanged files: noticed, never a panic, nothing deleted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use corten_database::{Database, Health, OpenReport};
use corten_disk::{
    Disk,
    testing::{Script, Unsynced},
};
use corten_types::ErrorKind;
use tempfile::TempDir;

use crate::support::{folder, numbers, open, options, put, quarantine_reason};

/// A database of some pages that was closed.
fn closed() -> (TempDir, PathBuf) {
    let folder = folder();
    let path = folder.path().join("db");
    let (database, _) = open(&path);
    (0..300).for_each(|number| put(&database, number).wait().unwrap());
    database.close().unwrap();
    (folder, path)
}

/// A database that was in use when the power went: some of it is in the log only.
fn crashed() -> (TempDir, PathBuf) {
    let before = folder();
    let script = Script::never_fails(before.path());
    let (database, _) = Database::open(&before.path().join("db"), options(script.disk())).unwrap();
    put(&database, 1).wait().unwrap();
    database.checkpoint().unwrap();
    put(&database, 2).wait().unwrap();
    let after = folder();
    script.after_power_loss(Unsynced::Dropped, after.path()).unwrap();
    let path = after.path().join("db");
    (after, path)
}

fn set_aside(report: &OpenReport) -> &Path {
    match &report.health {
        Health::Quarantine { set_aside: Some(path), .. } => path,
        other => panic!("nothing was set aside: {other:?}"),
    }
}

#[test]
fn a_crashed_database_recovers_from_its_log() {
    let (_folder, path) = crashed();
    let (database, report) = open(&path);
    assert!(report.health.is_healthy() && report.after_crash, "{report:?}");
    assert_eq!(numbers(&database), [1, 2]);
}

#[test]
fn a_damaged_database_is_set_aside_under_a_dated_name_byte_for_byte() {
    for (what, offset) in [("the header", 0), ("an inner page", 4096 * 3)] {
        let (_folder, path) = closed();
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset..offset + 64].fill(0xa5);
        fs::write(&path, &bytes).unwrap();
        let (database, report) = open(&path);
        let aside = set_aside(&report);
        assert!(aside.display().to_string().contains("db.damaged-20"), "{what}: {aside:?}");
        assert_eq!(fs::read(aside).unwrap(), bytes, "{what}");
        assert!(report.created && numbers(&database).is_empty());
        drop(database);
        let (_, report) = open(&path);
        assert!(!report.health.is_healthy(), "{what}: quarantine lasts");
    }
}

#[test]
fn two_damages_on_one_day_do_not_overwrite_each_other() {
    let (folder, path) = closed();
    for _ in 0..3 {
        fs::write(&path, [1; 8192]).unwrap();
        set_aside(&open(&path).1);
    }
    let aside = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("db.damaged-"));
    assert_eq!(aside.count(), 3);
}

#[test]
fn a_lost_log_is_noticed() {
    let (_folder, path) = crashed();
    fs::remove_file(path.with_file_name("db-wal")).unwrap();
    let (database, report) = open(&path);
    assert!(quarantine_reason(&report).contains("log is missing"), "{report:?}");
    assert_eq!(numbers(&database), [1], "what is left is served");
}

#[test]
fn a_lost_or_emptied_database_is_noticed_and_its_log_is_kept() {
    for empties in [false, true] {
        let (folder, path) = crashed();
        let log = fs::read(path.with_file_name("db-wal")).unwrap();
        if empties {
            fs::write(&path, b"").unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let (_database, report) = open(&path);
        assert!(quarantine_reason(&report).contains("missing or empty"), "{report:?}");
        let aside = set_aside(&report);
        let mut kept = aside.as_os_str().to_owned();
        kept.push("-wal");
        assert_eq!(fs::read(kept).unwrap(), log);
        drop(folder);
    }
}

#[test]
fn an_old_copy_that_is_put_back_is_noticed() {
    let (folder, path) = closed();
    let copy = folder.path().join("old");
    fs::copy(&path, &copy).unwrap();
    drop(open(&path));
    let (database, _) = open(&path);
    put(&database, 1000).wait().unwrap();
    drop(database);
    fs::copy(&copy, &path).unwrap();
    let (_, report) = open(&path);
    assert!(quarantine_reason(&report).contains("generation"), "{report:?}");
}

#[test]
fn another_stores_database_is_noticed() {
    let (_first, path) = closed();
    let (_second, other) = closed();
    fs::copy(&other, &path).unwrap();
    let (_, report) = open(&path);
    assert!(quarantine_reason(&report).contains("store id"), "{report:?}");
}

#[test]
fn a_damaged_or_lost_marker_is_noticed() {
    for damage in [None, Some(&b""[..]), Some(b"\xff\xfe"), Some(b"corten database marker 1\nopen\n")] {
        let (folder, path) = closed();
        let marker = folder.path().join("db.marker");
        match damage {
            None => fs::remove_file(&marker).unwrap(),
            Some(bytes) => fs::write(&marker, bytes).unwrap(),
        }
        let (database, report) = open(&path);
        assert!(quarantine_reason(&report).contains("marker"), "{report:?}");
        assert_eq!(numbers(&database).len(), 300);
    }
}

#[test]
fn random_damage_to_any_file_never_panics_and_never_deletes() {
    let mut seed = 0x00c0_ffee_u64;
    let mut next = move |limit: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap() % limit.max(1)
    };
    for round in 0..120 {
        let (folder, path) = crashed();
        let victim = folder.path().join(["db", "db-wal", "db.marker"][round % 3]);
        let mut bytes = fs::read(&victim).unwrap();
        match next(4) {
            0 => bytes.truncate(next(bytes.len())),
            1 => bytes.extend(std::iter::repeat_n(0x5a, next(9000))),
            _ => {
                for _ in 0..=next(20) {
                    let at = next(bytes.len());
                    bytes[at] ^= u8::try_from(1 + next(255)).unwrap();
                }
            }
        }
        fs::write(&victim, &bytes).unwrap();
        match Database::open(&path, options(Disk::new())) {
            Ok((database, report)) => {
                // Rows of a page that passed the check may still be wrong; they are an error or a value.
                let _ = database.read(|connection| {
                    let mut statement = connection.prepare("SELECT number, side FROM pair")?;
                    let rows = statement
                        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
                    Ok(rows.collect::<Result<Vec<_>, _>>()?)
                });
                let _ = put(&database, 77).wait();
                if let Health::Quarantine { set_aside: Some(aside), .. } = &report.health
                    && victim == path
                    && !bytes.is_empty()
                {
                    assert_eq!(&fs::read(aside).unwrap(), &bytes, "round {round}");
                }
            }
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::Internal, "round {round}: {error:?}");
                assert_eq!(fs::read(&victim).unwrap(), bytes, "round {round}: {error:?}");
            }
        }
    }
}
