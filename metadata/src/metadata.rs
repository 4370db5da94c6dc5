//! The store: opening, views, collection, health.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use corten_content_store::ContentStore;
use corten_database::{Database, Migration, Refusal, rusqlite::Connection};
use corten_disk::Disk;
use corten_snapshotter::Snapshotter;
use corten_types::{Error, ErrorKind, Namespace, Result};

use crate::{
    CollectionStats, ContentSharing, EventSink, Health, Namespaces, Options, Statistics,
    change::{Change, Effects, Ended},
    collection::{self, Collections, Pacer},
    locks::{HeldKeys, KeyLocks},
    open,
    resources::Collectible,
    schema::{VERSION_1, VERSION_2, VERSION_3},
    sequence::Sequence,
    touched::Touched,
    view::View,
};

pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration::sql("namespaces and what is in them", VERSION_1),
    Migration::sql("things that others look after", VERSION_2),
    Migration::sql("what filters look at of containers", VERSION_3),
];

/// The store. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Metadata {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) database: Arc<Database>,
    pub(crate) content: Arc<dyn ContentStore>,
    pub(crate) snapshotters: BTreeMap<String, Arc<dyn Snapshotter>>,
    pub(crate) collectibles: BTreeMap<String, Arc<dyn Collectible>>,
    pub(crate) folders: Vec<std::path::PathBuf>,
    pub(crate) disk: Disk,
    pub(crate) sweep_batch: Duration,
    pub(crate) after_collection: Option<Arc<dyn Fn() + Send + Sync>>,
    pub(crate) collections: Collections,
    pub(crate) touched: Arc<Touched>,
    pub(crate) health: Mutex<Health>,
    content_sharing: ContentSharing,
    events: Arc<dyn EventSink>,
    pacer: Arc<Pacer>,
    sequence: Sequence,
    held_refs: HeldKeys,
    digest_locks: KeyLocks,
    snapshot_locks: KeyLocks,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pacer.close();
    }
}

impl Metadata {
    /// Opens the store, creating the database if there is none, and sets right what a crash left (`consistency.md`
    /// §3 and §5). Must be called inside a tokio runtime, which then also runs collections.
    ///
    /// A damaged database, or one that belongs to other trees and blobs, does not make this fail: see
    /// [`health`](Self::health).
    ///
    /// # Errors
    /// - `Unavailable`: another process has the database open.
    /// - `FailedPrecondition`: a newer program wrote it.
    /// - Others: the disk failed, or a store below.
    pub async fn open(options: Options) -> Result<Self> {
        let database_options = corten_database::Options {
            migrations: MIGRATIONS,
            disk: options.disk.clone(),
            ..corten_database::Options::default()
        };
        let path = options.path.clone();
        let (database, report) = blocking(move || Database::open(&path, database_options)).await?;
        let pacer = Arc::new(Pacer::new(options.schedule));
        let metadata = Self {
            inner: Arc::new(Inner {
                database: Arc::new(database),
                content: options.content,
                snapshotters: options.snapshotters,
                collectibles: options.collectibles,
                folders: options.folders,
                disk: options.disk,
                sweep_batch: options.sweep_batch,
                after_collection: options.after_collection,
                collections: Collections::default(),
                touched: Arc::new(Touched::default()),
                health: Mutex::new(report.health.clone()),
                content_sharing: options.content_sharing,
                events: options.events,
                pacer: Arc::clone(&pacer),
                sequence: Sequence::default(),
                held_refs: HeldKeys::default(),
                digest_locks: KeyLocks::default(),
                snapshot_locks: KeyLocks::default(),
            }),
        };
        open::doubt(&metadata, &options.doubts);
        if options.reconcile {
            open::reconcile(&metadata).await?;
        } else {
            open::judge_only(&metadata).await?;
        }
        if options.automatic {
            collection::serve(&metadata, pacer);
        }
        Ok(metadata)
    }

    /// All namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        Namespaces(self.clone())
    }

    /// One namespace, seen by a caller that may hold a lease. A lease that does not exist is an error only once
    /// something is created under it (X06).
    #[must_use]
    pub fn view(&self, namespace: Namespace, lease: Option<String>) -> View {
        View { metadata: self.clone(), namespace, lease: lease.filter(|lease| !lease.is_empty()) }
    }

    /// The names of the snapshotters, sorted.
    #[must_use]
    pub fn snapshotters(&self) -> Vec<String> {
        self.inner.snapshotters.keys().cloned().collect()
    }

    /// Collects what nothing refers to, and waits until its bytes are gone too (G24). Begins a new mark: all that was
    /// committed before the call is seen.
    ///
    /// # Errors
    /// `FailedPrecondition` in quarantine; else what the database or a backend said.
    pub async fn collect(&self) -> Result<CollectionStats> {
        let this = self.clone();
        View::finish(async move { collection::collect(&this).await }).await?
    }

    /// Gives back the memory in which the database keeps pages for being read again, as
    /// [`Database::release_memory`](corten_database::Database::release_memory) does: for when nothing is asked for a while.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn release_memory(&self) -> Result<()> {
        self.inner.database.release_memory().await
    }

    /// How the store is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts since the store was opened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.inner.collections.statistics()
    }

    /// What the database has done since the store was opened.
    #[must_use]
    pub fn database_statistics(&self) -> corten_database::Statistics {
        self.inner.database.statistics()
    }

    /// Ends the quarantine: whoever calls this has looked at what was found. The trees and blobs belong to this
    /// database from now on, and what no row speaks of is removed at the next start.
    ///
    /// # Errors
    /// Those of the disk; the quarantine then goes on.
    pub async fn release_quarantine(&self) -> Result<()> {
        let this = self.clone();
        View::finish(async move {
            open::adopt_folders(&this).await?;
            this.inner.database.release_quarantine().await?;
            *this.inner.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::Healthy;
            this.inner.pacer.changed(true);
            Ok(())
        })
        .await?
    }

    /// Stops collections and closes the database, after all that was begun. Every later call fails with
    /// `Unavailable`.
    ///
    /// # Errors
    /// Those of the disk; all that was acknowledged is durable all the same.
    pub async fn close(&self) -> Result<()> {
        self.inner.pacer.close();
        let _none_runs = self.inner.collections.exclusive().await;
        let database = Arc::clone(&self.inner.database);
        blocking(move || database.close()).await
    }

    pub(crate) fn snapshotter(&self, name: &str) -> Option<Arc<dyn Snapshotter>> {
        self.inner.snapshotters.get(name).cloned()
    }

    pub(crate) fn content(&self) -> &dyn ContentStore {
        self.inner.content.as_ref()
    }

    pub(crate) fn content_sharing(&self) -> ContentSharing {
        self.inner.content_sharing
    }

    pub(crate) fn held_refs(&self) -> &HeldKeys {
        &self.inner.held_refs
    }

    pub(crate) fn digest_locks(&self) -> &KeyLocks {
        &self.inner.digest_locks
    }

    pub(crate) fn snapshot_locks(&self) -> &KeyLocks {
        &self.inner.snapshot_locks
    }

    pub(crate) fn pacer(&self) -> &Pacer {
        &self.inner.pacer
    }

    pub(crate) fn sequence(&self) -> &Sequence {
        &self.inner.sequence
    }

    /// Whether bytes may be removed at all (§5).
    pub(crate) fn may_remove(&self) -> bool {
        self.health().is_healthy()
    }

    /// A number for the store below that was never given before.
    pub(crate) async fn next_sequence(&self) -> Result<u64> {
        self.inner.sequence.next(self).await
    }

    /// Runs an operation on the writer. Its events are published after the commit.
    pub(crate) async fn write<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Change<'_>) -> Ended<T> + Send + 'static,
    {
        let (run, after) = self.prepared(operation);
        if corten_disk::may_wait() {
            return self.inner.database.run_then(run, after).map(|(value, _)| value);
        }
        self.inner.database.write_then(run, after).await.map(|(value, _)| value)
    }

    /// The same for an operation that makes room.
    pub(crate) async fn write_freeing<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Change<'_>) -> Ended<T> + Send + 'static,
    {
        let (run, after) = self.prepared(operation);
        if corten_disk::may_wait() {
            return self.inner.database.run_freeing(run, after).map(|(value, _)| value);
        }
        self.inner.database.write_freeing(run, after).await.map(|(value, _)| value)
    }

    /// Whether a new row would be refused now, for want of room.
    pub(crate) fn check_room(&self) -> Result<()> {
        self.inner.database.check_room()
    }

    #[expect(clippy::type_complexity, reason = "two closures")]
    fn prepared<T, F>(
        &self,
        operation: F,
    ) -> (
        impl Fn(&Connection) -> Result<(T, Mutex<Effects>), Refusal> + Send + 'static + use<T, F>,
        impl FnOnce(Result<&(T, Mutex<Effects>), &Error>) + Send + 'static + use<T, F>,
    )
    where
        T: Send + 'static,
        F: Fn(&mut Change<'_>) -> Ended<T> + Send + 'static,
    {
        let touched = Arc::clone(&self.inner.touched);
        let run = move |connection: &Connection| {
            let mut change = Change::new(connection, &touched);
            let value = operation(&mut change)?;
            Ok((value, Mutex::new(change.into_effects())))
        };
        let (events, pacer) = (Arc::clone(&self.inner.events), Arc::clone(&self.inner.pacer));
        let after = move |result: Result<&(T, Mutex<Effects>), &Error>| {
            let effects = match result {
                Ok((_, effects)) => {
                    std::mem::take(&mut *effects.lock().unwrap_or_else(PoisonError::into_inner))
                }
                Err(_) => Effects::default(),
            };
            for (namespace, event) in effects.events {
                events.publish(&namespace, event);
            }
            if !effects.quiet {
                pacer.changed(effects.deleted);
            }
        };
        (run, after)
    }

    /// Runs a read on a thread that may block.
    pub(crate) async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let database = Arc::clone(&self.inner.database);
        blocking(move || database.read(|connection| Ok(read(connection)?))).await
    }
}

/// Runs something that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if corten_disk::may_wait() {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let message = "metadata: a blocking operation panicked or its runtime ended";
        Err(Error::new(ErrorKind::Internal, message).with_source(error))
    })
}

impl fmt::Debug for Metadata {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metadata").field("path", self.inner.database.path()).finish_non_exhaustive()
    }
}
