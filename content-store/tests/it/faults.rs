//! Every durable operation fails once, and the power goes before each: nobody was told anything that is not so.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use corten_content_store::{BlobWriter, CommitOptions, IngestCatalog, IngestOptions, Ingester, LocalStore};
use corten_disk::{
    Disk, Operation, Seam, Step,
    testing::{Fault, Script, Unsynced},
};
use corten_types::Result;

use crate::{blobs, open, put, sha256};

/// What was acknowledged.
#[derive(Default)]
struct Ledger {
    committed: Vec<&'static [u8]>,
    deleted: Vec<&'static [u8]>,
    /// Began, and may or may not have happened.
    in_doubt: Vec<&'static [u8]>,
    aborted: bool,
}

impl Ledger {
    async fn commit(&mut self, store: &LocalStore, key: &str, bytes: &'static [u8]) -> Result<()> {
        self.in_doubt.push(bytes);
        put(store, key, bytes).await?;
        self.in_doubt.pop();
        self.committed.push(bytes);
        Ok(())
    }

    async fn delete(&mut self, store: &LocalStore, bytes: &'static [u8]) -> Result<()> {
        self.committed.retain(|committed| *committed != bytes);
        self.in_doubt.push(bytes);
        store.delete(&sha256(bytes)).await?;
        self.in_doubt.pop();
        self.deleted.push(bytes);
        Ok(())
    }
}

async fn scenario(root: &Path, disk: Disk, ledger: &mut Ledger) -> Result<()> {
    let store = LocalStore::open(root, disk)?;
    ledger.commit(&store, "one", b"first").await?;
    ledger.commit(&store, "two", b"second").await?;
    ledger.delete(&store, b"first").await?;
    let mut half = store.ingest("half", IngestOptions::default()).await?;
    half.write("half".into()).await?;
    drop(half);
    let options = IngestOptions { size_bytes: Some(3), ..IngestOptions::default() };
    let mut half = store.ingest("half", options).await?;
    half.write("new".into()).await?;
    drop(half);
    store.abort("half").await?;
    ledger.aborted = true;
    ledger.commit(&store, "one", b"first").await?;
    Ok(())
}

async fn check(root: &Path, ledger: &Ledger, what: &str) {
    let store = open(root);
    let found = blobs(&store).await;
    for bytes in &ledger.committed {
        assert!(found.iter().any(|blob| blob == bytes), "{what}: a committed blob is gone");
    }
    for bytes in &found {
        let known = ledger.committed.iter().chain(&ledger.in_doubt).any(|expected| expected == bytes);
        assert!(known, "{what}: {bytes:?} exists, deleted were {:?}", ledger.deleted);
    }
    if ledger.aborted {
        assert!(store.ingest_status("half").await.is_err(), "{what}: an aborted ingest is back");
    }
    for (key, bytes) in [("one", b"first".as_slice()), ("two", b"second"), ("half", b"third")] {
        if !found.iter().any(|blob| blob == bytes) {
            put(&store, key, bytes).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
    }
}

#[tokio::test]
async fn a_failing_operation_is_noticed_and_leaves_what_was_acknowledged() {
    let count = operation_count().await;
    for failing in 0..count {
        for fault in [Fault::Io, Fault::Full] {
            let (root, mut ledger) = (tempfile::tempdir().unwrap(), Ledger::default());
            let script = Script::fails_at(root.path(), failing, fault);
            let result = scenario(root.path(), script.disk(), &mut ledger).await;
            let what = script.log()[failing].clone();
            assert!(result.is_err(), "{what} failed and nobody noticed");
            check(root.path(), &ledger, &what).await;
        }
    }
}

#[tokio::test]
async fn a_power_cut_at_any_operation_leaves_what_was_acknowledged() {
    for cut in 0..operation_count().await {
        let (root, mut ledger) = (tempfile::tempdir().unwrap(), Ledger::default());
        let script = Script::cuts_power_at(root.path(), cut);
        assert!(scenario(root.path(), script.disk(), &mut ledger).await.is_err());
        for unsynced in Unsynced::ALL {
            let found = tempfile::tempdir().unwrap();
            script.after_power_loss(unsynced, found.path()).unwrap();
            check(found.path(), &ledger, &format!("{unsynced:?} before {}", script.log()[cut])).await;
        }
    }
}

/// How many operations the scenario has, after it was checked that it passes when nothing fails.
async fn operation_count() -> usize {
    let (root, mut ledger) = (tempfile::tempdir().unwrap(), Ledger::default());
    let script = Script::never_fails(root.path());
    scenario(root.path(), script.disk(), &mut ledger).await.unwrap();
    for unsynced in Unsynced::ALL {
        let found = tempfile::tempdir().unwrap();
        script.after_power_loss(unsynced, found.path()).unwrap();
        check(found.path(), &ledger, &format!("{unsynced:?} at the end")).await;
    }
    let count = script.operation_count();
    assert!(count >= 40, "{count} operations are too few to prove anything");
    count
}

/// The bytes of an ingest whose sync failed may be gone from the page cache without being on the disk.
#[tokio::test]
async fn after_a_failed_sync_the_bytes_must_come_again() {
    #[derive(Debug)]
    struct SyncFails;
    impl Seam for SyncFails {
        fn before(&self, operation: &Operation<'_>) -> Step {
            match operation {
                Operation::SyncAll { path, .. } if path.ends_with("data") => {
                    Step::Fail(io::Error::other("broken"))
                }
                _ => Step::Go,
            }
        }
        fn after(&self, _operation: &Operation<'_>) {}
    }
    let root = tempfile::tempdir().unwrap();
    let store = LocalStore::open(root.path(), Disk::with_seam(Arc::new(SyncFails))).unwrap();
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    assert!(ingest.commit(CommitOptions::default()).await.is_err());
    assert!(ingest.commit(CommitOptions::default()).await.unwrap_err().message().contains("given up"));
    drop(ingest);
    let ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 0);
    assert!(blobs(&store).await.is_empty());
}

#[tokio::test]
async fn a_write_that_a_full_disk_cuts_short_adds_nothing() {
    #[derive(Debug)]
    struct FullOnce(AtomicUsize);
    impl Seam for FullOnce {
        fn before(&self, operation: &Operation<'_>) -> Step {
            match operation {
                Operation::Write { path, .. }
                    if path.ends_with("data") && self.0.fetch_add(1, Ordering::SeqCst) == 1 =>
                {
                    Step::Short { bytes: 2, error: io::Error::from_raw_os_error(28) }
                }
                _ => Step::Go,
            }
        }
        fn after(&self, _operation: &Operation<'_>) {}
    }
    let root = tempfile::tempdir().unwrap();
    let store =
        LocalStore::open(root.path(), Disk::with_seam(Arc::new(FullOnce(AtomicUsize::new(0))))).unwrap();
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    let error = ingest.write("defgh".into()).await.unwrap_err();
    assert_eq!(error.kind(), corten_types::ErrorKind::ResourceExhausted);
    assert_eq!(ingest.status().offset_bytes, 3);
    ingest.write("defgh".into()).await.unwrap();
    assert_eq!(ingest.commit(CommitOptions::default()).await.unwrap().digest, sha256(b"abcdefgh"));
}

/// What was announced before a write failed is neither lost nor counted twice.
#[tokio::test]
async fn announced_bytes_whose_write_fails_can_be_written_again_or_others_instead() {
    #[derive(Debug)]
    struct FailsOnce(AtomicUsize);
    impl Seam for FailsOnce {
        fn before(&self, operation: &Operation<'_>) -> Step {
            match operation {
                // The second of the pieces below: the first is there already and goes again.
                Operation::Write { path, .. }
                    if path.ends_with("data") && self.0.fetch_add(1, Ordering::SeqCst) == 2 =>
                {
                    Step::Fail(io::Error::other("broken"))
                }
                _ => Step::Go,
            }
        }
        fn after(&self, _operation: &Operation<'_>) {}
    }
    let pieces: Vec<Bytes> = (0..4_u8).map(|number| vec![number; 200_000].into()).collect();
    for announced_len in 0..=4 {
        for next in [&pieces[..2], &pieces[2..], &pieces[..]] {
            let root = tempfile::tempdir().unwrap();
            let disk = Disk::with_seam(Arc::new(FailsOnce(AtomicUsize::new(0))));
            let store = LocalStore::open(root.path(), disk).unwrap();
            let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
            ingest.write("abc".into()).await.unwrap();
            let announcer = ingest.announcer().unwrap();
            pieces[..announced_len].iter().for_each(|piece| announcer.announce(piece.clone()));
            assert!(ingest.write_pieces(pieces[..2].to_vec()).await.is_err());
            assert_eq!(ingest.status().offset_bytes, 3);
            assert_eq!(ingest.digest().await.unwrap(), sha256(b"abc"));
            pieces[announced_len..].iter().for_each(|piece| announcer.announce(piece.clone()));
            ingest.write_pieces(next.to_vec()).await.unwrap();
            let written = [b"abc", &next.concat()[..]].concat();
            assert_eq!(ingest.commit(CommitOptions::default()).await.unwrap().digest, sha256(&written));
            assert_eq!(blobs(&store).await, [written]);
        }
    }
}
