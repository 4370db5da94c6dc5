//! Nobody waits for the sync of somebody else's bytes (row T22).

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};

use corten_content_store::{BlobReader, CommitOptions, IngestCatalog, IngestOptions, Ingester, LocalStore};
use corten_disk::{Disk, Operation, Seam, Step};
use corten_filter::Filters;

use crate::{put, sha256};

/// Holds the first sync of data until it is let go.
#[derive(Debug, Default)]
struct SlowSync {
    is_taken: AtomicBool,
    /// Whether it waits, and whether it may go on.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Seam for SlowSync {
    fn before(&self, operation: &Operation<'_>) -> Step {
        let is_first = matches!(operation, Operation::SyncAll { path, .. } if path.ends_with("data"))
            && !self.is_taken.swap(true, Ordering::SeqCst);
        if is_first {
            let mut state = self.state.lock().unwrap();
            state.0 = true;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |(_, may_go)| !*may_go).unwrap());
        }
        Step::Go
    }

    fn after(&self, _operation: &Operation<'_>) {}
}

impl SlowSync {
    fn wait_until_it_syncs(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |(waits, _)| !*waits).unwrap());
    }

    fn let_go(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_while_the_bytes_of_a_commit_are_synced() {
    let root = tempfile::tempdir().unwrap();
    let slow = Arc::new(SlowSync::default());
    let store = LocalStore::open(root.path(), Disk::with_seam(slow.clone())).unwrap();
    let mut ingest = store.ingest("slow", IngestOptions::default()).await.unwrap();
    ingest.write("slow".into()).await.unwrap();
    let syncing = tokio::spawn(async move { ingest.commit(CommitOptions::default()).await });
    let waiting = slow.clone();
    tokio::task::spawn_blocking(move || waiting.wait_until_it_syncs()).await.unwrap();

    let digest = sha256(b"slow");
    assert!(store.info(&digest).await.is_err(), "it is not there yet, and asking does not wait");
    put(&store, "other", b"other").await.unwrap();
    assert_eq!(store.list(&Filters::all(), None, 10).await.unwrap().len(), 1);
    assert_eq!(store.ingest_status("slow").await.unwrap().offset_bytes, 4);
    let expecting = IngestOptions { expected: Some(digest.clone()), ..IngestOptions::default() };
    drop(store.ingest("same", expecting).await.expect("the same digest is not locked either"));
    // The same bytes again: the first to be durable wins.
    put(&store, "same", b"slow").await.unwrap();

    slow.let_go();
    assert!(syncing.await.unwrap().is_err(), "the blob exists by now");
    assert_eq!(store.info(&digest).await.unwrap().size_bytes, 4);
}
