//! Damaged, lost and exchanged files: noticed, never a panic, nothing deleted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use corten_database::{Database, Health, OpenReport, Options, Salvage, rusqlite::Connection};
use corten_disk::{
    Disk,
    testing::{Script, Unsynced},
};
use corten_types::ErrorKind;
use tempfile::TempDir;

use crate::support::{SCHEMA, folder, numbers, open, options, put, quarantine_reason};

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

/// Changes the bytes at `offset` of a file.
fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    let mut all = fs::read(path).unwrap();
    all[offset..offset + bytes.len()].copy_from_slice(bytes);
    fs::write(path, &all).unwrap();
}

#[test]
fn a_damaged_application_id_or_schema_version_is_damage_and_no_reason_to_refuse() {
    // The file format of SQLite, §1.3: the version at 60, the application id at 68.
    for (offset, bytes) in [(60, 9_u32), (60, 0), (60, 2), (60, 1 << 31), (68, 0), (68, 1), (68, u32::MAX)] {
        let (_folder, path) = closed();
        overwrite(&path, offset, &bytes.to_be_bytes());
        let damaged = fs::read(&path).unwrap();
        let (database, report) = open(&path);
        assert_eq!(fs::read(set_aside(&report)).unwrap(), damaged, "{bytes:#x} at {offset}");
        assert!(report.created && numbers(&database).is_empty());
        let scratch = folder();
        let salvage = Salvage::open(set_aside(&report), scratch.path(), SCHEMA).unwrap();
        let mut count = 0;
        assert!(salvage.rows("pair", &["number", "side"], &["number", "side"], |_| count += 1));
        assert_eq!(count, 600, "all rows can be read again");
    }
}

#[test]
fn a_damaged_statement_of_our_own_table_is_damage_and_no_reason_to_refuse() {
    for word in ["quarantine TEXT", "commits INTEGER NOT", "corten_database"] {
        let (_folder, path) = closed();
        let mut bytes = fs::read(&path).unwrap();
        let places: Vec<usize> = (0..4096).filter(|at| bytes[*at..].starts_with(word.as_bytes())).collect();
        assert!(!places.is_empty(), "{word}");
        places.into_iter().for_each(|at| bytes[at] ^= 1);
        fs::write(&path, &bytes).unwrap();
        let (_, report) = open(&path);
        assert_eq!(fs::read(set_aside(&report)).unwrap(), bytes, "{word}");
    }
}

/// The log is begun anew over the old one, all of which is in the database.
#[test]
fn a_header_that_was_being_written_over_an_old_log_is_no_damage() {
    for has_shared_memory in [false, true] {
        let folder = folder();
        let path = folder.path().join("db");
        let (database, _) = open(&path);
        put(&database, 1).wait().unwrap();
        database.checkpoint().unwrap();
        let copy = crate::support::folder();
        for name in ["db", "db-wal", "db-shm", "db.marker"] {
            fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
        }
        let path = copy.path().join("db");
        let log = path.with_file_name("db-wal");
        if has_shared_memory {
            // Nothing is committed to the new log; both copies of the header say so.
            for at in [16, 48 + 16] {
                overwrite(&path.with_file_name("db-shm"), at, &0_u32.to_ne_bytes());
            }
            overwrite(&log, 0, &[0xff; 16]);
        } else {
            fs::remove_file(path.with_file_name("db-shm")).unwrap();
            let number = fs::read(&log).unwrap()[15];
            overwrite(&log, 15, &[number.wrapping_add(1)]);
        }
        let (database, report) = open(&path);
        assert!(report.health.is_healthy(), "{has_shared_memory}: {report:?}");
        assert_eq!(numbers(&database), [1]);
    }
}

#[test]
fn no_damaged_byte_of_the_header_is_a_reason_to_refuse() {
    for states in [closed, crashed] {
        let (pristine, path) = states();
        let (database, _) = open(&path);
        let whole = numbers(&database);
        drop(database);
        drop(pristine);
        for (offset, mask) in (0..100).flat_map(|offset| [(offset, 1), (offset, 4), (offset, 0xff)]) {
            let (_folder, path) = states();
            let byte = fs::read(&path).unwrap()[offset];
            overwrite(&path, offset, &[byte ^ mask]);
            let opened = Database::open(&path, options(Disk::new()));
            let (database, report) =
                opened.unwrap_or_else(|error| panic!("{mask:#x} at {offset}: {}", error.chain()));
            if report.health.is_healthy() {
                assert_eq!(numbers(&database), whole, "{mask:#x} at {offset} is not harmless");
            }
        }
    }
}

#[test]
fn a_database_of_another_program_in_the_place_of_ours_is_refused_and_stays() {
    let (_folder, path) = closed();
    fs::remove_file(&path).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x); PRAGMA application_id = 7")
        .unwrap();
    let before = fs::read(&path).unwrap();
    let error = Database::open(&path, options(Disk::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.message().contains("another program"), "{error:?}");
    // That it is asked for its name in WAL mode is all that happened to it.
    assert_eq!(fs::read(&path).unwrap().len(), before.len());
    Connection::open(&path).unwrap().execute_batch("SELECT * FROM theirs").unwrap();
}

#[test]
fn a_log_that_was_cut_is_noticed_also_where_a_checkpoint_had_copied_what_the_database_says_of_itself() {
    for length in [0, 10, 32, 4000] {
        let (_folder, path) = crashed();
        fs::OpenOptions::new()
            .write(true)
            .open(path.with_file_name("db-wal"))
            .unwrap()
            .set_len(length)
            .unwrap();
        let (database, report) = open(&path);
        assert!(quarantine_reason(&report).contains("log was cut"), "{length}: {report:?}");
        assert_eq!(numbers(&database), [1], "what is left is served");
    }
}

#[test]
fn a_log_is_never_cut_to_nothing_while_the_database_is_open() {
    let folder = folder();
    let path = folder.path().join("db");
    let options = Options { checkpoint_bytes: 32 << 10, wal_limit_bytes: 32 << 10, ..options(Disk::new()) };
    let (database, _) = Database::open(&path, options).unwrap();
    for number in 0..200 {
        put(&database, number).wait().unwrap();
        // What a process that dies now leaves.
        let log = path.with_file_name("db-wal").metadata().unwrap().len();
        assert!(log > 4096, "{log} bytes after {number}");
    }
    assert!(database.statistics().checkpoints > 0);
    let copy = crate::support::folder();
    database.close().unwrap();
    drop(copy);
    assert!(!path.with_file_name("db-wal").exists(), "a clean close removes it");
}

#[test]
fn a_marker_of_the_first_format_is_read_and_says_nothing_of_logs_and_schemas() {
    let (_folder, path) = crashed();
    let marker = path.with_file_name("db.marker");
    let text = fs::read_to_string(&marker).unwrap();
    let body: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("schema") && !line.starts_with("crc")).collect();
    let body = body.join("\n").replace("marker 2", "marker 1");
    fs::write(&marker, format!("{body}\ncrc32c {:08x}\n", crc32c::crc32c(body.as_bytes()))).unwrap();
    // Programs of that time cut the log to nothing while they ran.
    fs::write(path.with_file_name("db-wal"), b"").unwrap();
    let (database, report) = open(&path);
    assert!(report.health.is_healthy() && report.after_crash, "{report:?}");
    drop(database);
    assert!(
        fs::read_to_string(&marker).unwrap().contains("marker 2\n"),
        "and is replaced by one of the second"
    );
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
            Err(error) => panic!("round {round}: {error:?}"),
        }
    }
}
