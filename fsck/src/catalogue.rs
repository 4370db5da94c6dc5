//! The rows of everything, read once: what a check compares with.
//!
//! They lie in a private file that SQLite makes and removes by itself, so that memory does not grow with them.

mod tables;

use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_content_store::LocalStore;
use corten_metadata::{DamagedRow, Metadata, Stored, Table};
use corten_snapshotter::{DamagedSnapshot, Row as TreeRow};
use corten_types::{Error, ErrorKind, Labels, Result};
use rusqlite::{Connection, Params, Row, ToSql, params};

pub(crate) use tables::{
    BlobUse, ContainerUse, FileName, ImageUse, IngestUse, Listed, Reference, SnapshotUse, TreeUse,
};

use crate::{Store, blobs, store::blocking};

/// How many rows are read at once.
pub(crate) const PAGE_ROWS: usize = 1000;

/// Labels that refer to other content.
pub(crate) const CONTENT_REFERENCE: &str = "containerd.io/gc.ref.content";
/// Labels that refer to snapshots.
pub(crate) const SNAPSHOT_REFERENCE: &str = "containerd.io/gc.ref.snapshot.";

/// What of the file is kept in memory.
const CACHE_KIB: i64 = 8 << 10;

/// Namespace, snapshotter and key.
pub(crate) type SnapshotKey = (String, String, String);

/// What the rows say.
#[derive(Debug)]
pub(crate) struct Catalogue {
    index: Mutex<Connection>,
    pub(crate) damaged: Vec<DamagedRow>,
    /// The damaged rows of snapshotters, with their names.
    pub(crate) damaged_trees: Vec<(String, DamagedSnapshot)>,
    /// How many rows there are.
    pub(crate) rows: u64,
}

impl Catalogue {
    pub(crate) async fn read(store: &Store) -> Result<Self> {
        let mut catalogue = Self {
            index: Mutex::new(tables::create().map_err(told)?),
            damaged: Vec::new(),
            damaged_trees: Vec::new(),
            rows: 0,
        };
        for table in Table::ALL {
            catalogue.read_table(&store.metadata, table).await?;
        }
        for (name, inspector) in &store.snapshotters {
            let mut after = 0;
            loop {
                let inspector = inspector.clone();
                let page = blocking(move || inspector.rows(after, PAGE_ROWS)).await?;
                let Some(last) = page.last() else { break };
                after = last.as_ref().map_or_else(|damaged| damaged.id, |row| row.id);
                catalogue.rows += page.len() as u64;
                catalogue.add_trees(name, page)?;
            }
        }
        Ok(catalogue)
    }

    /// Notes the names of files in the folder of blobs, and answers with those that are no digests.
    pub(crate) async fn read_files(&self, content: &LocalStore) -> Result<Vec<std::path::PathBuf>> {
        let root = content.root().to_owned();
        self.change(|index| index.execute_batch("DELETE FROM file"))?;
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<Vec<String>>(4);
        let listing = tokio::task::spawn_blocking(move || {
            blobs::list(&root, |digests| sender.blocking_send(digests).is_ok())
        });
        while let Some(digests) = receiver.recv().await {
            self.change(|index| {
                let mut insert = index.prepare_cached("INSERT OR IGNORE INTO file (digest) VALUES (?1)")?;
                digests.iter().try_for_each(|digest| insert.execute([digest]).map(drop))
            })?;
        }
        listing
            .await
            .unwrap_or_else(|error| Err(Error::internal("a listing did not finish").with_source(error)))
    }

    async fn read_table(&mut self, metadata: &Metadata, table: Table) -> Result<()> {
        let mut after = None;
        loop {
            let page = metadata.stored(table, after, PAGE_ROWS).await?;
            self.rows += page.rows.len() as u64;
            let mut damaged = Vec::new();
            self.change(|index| {
                for row in page.rows {
                    if let Stored::Damaged(row) = row {
                        damaged.push(row);
                    } else {
                        tables::add(index, row)?;
                    }
                }
                Ok(())
            })?;
            self.damaged.append(&mut damaged);
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn add_trees(&mut self, snapshotter: &str, page: Vec<Result<TreeRow, DamagedSnapshot>>) -> Result<()> {
        let mut damaged = Vec::new();
        self.change(|index| {
            for row in page {
                match row {
                    Ok(row) => tables::add_tree(index, snapshotter, &row)?,
                    Err(row) => damaged.push((snapshotter.to_owned(), row)),
                }
            }
            Ok(())
        })?;
        self.damaged_trees.append(&mut damaged);
        Ok(())
    }

    fn index(&self) -> MutexGuard<'_, Connection> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        let mut index = self.index();
        let run = || {
            let transaction = index.transaction()?;
            work(&transaction)?;
            transaction.commit()
        };
        run().map_err(told)
    }

    /// What a query answers, which must not be long.
    fn ask<T>(
        &self,
        text: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let index = self.index();
        let run =
            || index.prepare_cached(text)?.query_map(params, read)?.collect::<rusqlite::Result<Vec<T>>>();
        run().map_err(told)
    }

    fn is_true(&self, text: &str, params: impl Params) -> Result<bool> {
        let index = self.index();
        let run = || index.prepare_cached(text)?.exists(params);
        run().map_err(told)
    }

    /// The next rows of a table after the place `after`, which moves on; nothing at the end. `condition` is SQL about the row
    /// `this`.
    pub(crate) fn next_page<T: Listed>(
        &self,
        after: &mut i64,
        condition: &str,
        params: &[&dyn ToSql],
    ) -> Result<Vec<T>> {
        // Numbered parameters begin with the place, so that conditions count theirs from 2.
        let text = format!(
            "SELECT this.rowid, {} FROM {} AS this WHERE this.rowid > ?1 AND ({condition}) ORDER BY this.rowid \
             LIMIT {PAGE_ROWS}",
            T::COLUMNS,
            T::TABLE
        );
        let place = *after;
        let all: Vec<&dyn ToSql> =
            std::iter::once(&place as &dyn ToSql).chain(params.iter().copied()).collect();
        let page = self.ask(&text, all.as_slice(), |row| Ok((row.get(0)?, T::read(row)?)))?;
        if let Some((last, _)) = page.last() {
            *after = *last;
        }
        Ok(page.into_iter().map(|(_, row)| row).collect())
    }

    /// How many rows of a table fulfil a condition.
    pub(crate) fn count<T: Listed>(&self, condition: &str, params: &[&dyn ToSql]) -> Result<u64> {
        let text =
            format!("SELECT count(*) FROM {} AS this WHERE this.rowid > ?1 AND ({condition})", T::TABLE);
        let all: Vec<&dyn ToSql> = std::iter::once(&0 as &dyn ToSql).chain(params.iter().copied()).collect();
        let count = self.ask(&text, all.as_slice(), |row| row.get::<_, i64>(0))?.pop();
        Ok(count.map_or(0, i64::cast_unsigned))
    }

    /// Namespaces that something is in and that have no row.
    pub(crate) fn missing_namespaces(&self) -> Result<Vec<String>> {
        let text =
            "SELECT name FROM used_namespace WHERE name NOT IN (SELECT name FROM namespace) ORDER BY name";
        self.ask(text, [], |row| row.get(0))
    }

    /// The lengths that the rows of a blob say.
    pub(crate) fn sizes(&self, digest: &str) -> Result<Vec<u64>> {
        let text = "SELECT size FROM blob WHERE digest = ?1";
        self.ask(text, [digest], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))
    }

    pub(crate) fn has_file(&self, digest: &str) -> Result<bool> {
        self.is_true("SELECT 1 FROM file WHERE digest = ?1", [digest])
    }

    pub(crate) fn has_container(&self, namespace: &str, id: &str) -> Result<bool> {
        self.is_true("SELECT 1 FROM container WHERE namespace = ?1 AND id = ?2", [namespace, id])
    }

    pub(crate) fn has_ingest(&self, backend_ref: &str) -> Result<bool> {
        self.is_true("SELECT 1 FROM ingest WHERE backend_ref = ?1", [backend_ref])
    }

    pub(crate) fn has_tree(&self, snapshotter: &str, id: u64) -> Result<bool> {
        self.is_true(
            "SELECT 1 FROM tree WHERE snapshotter = ?1 AND id = ?2",
            params![snapshotter, id.cast_signed()],
        )
    }

    /// The row of a snapshotter that is called so: one, or none.
    pub(crate) fn trees_called(&self, snapshotter: &str, name: &str) -> Result<Vec<TreeUse>> {
        self.trees("name", snapshotter, name)
    }

    /// Those that stand on it in the snapshotter.
    pub(crate) fn trees_on(&self, snapshotter: &str, parent: &str) -> Result<Vec<TreeUse>> {
        self.trees("parent", snapshotter, parent)
    }

    fn trees(&self, column: &str, snapshotter: &str, value: &str) -> Result<Vec<TreeUse>> {
        let columns = TreeUse::COLUMNS;
        let text = format!(
            "SELECT 0, {columns} FROM tree AS this WHERE snapshotter = ?1 AND {column} = ?2 ORDER BY id"
        );
        self.ask(&text, [snapshotter, value], TreeUse::read)
    }

    /// The snapshots of all namespaces for a name in a snapshotter.
    pub(crate) fn snapshots_for(&self, snapshotter: &str, name: &str) -> Result<Vec<SnapshotUse>> {
        let columns = SnapshotUse::COLUMNS;
        let text = format!(
            "SELECT 0, {columns} FROM snapshot AS this WHERE snapshotter = ?1 AND (backend_key = ?2 OR pending = ?2) \
             ORDER BY namespace, key"
        );
        self.ask(&text, [snapshotter, name], SnapshotUse::read)
    }

    /// The backend keys of a snapshot of a namespace: one, or none.
    pub(crate) fn backend_keys(
        &self,
        (namespace, snapshotter, key): (&str, &str, &str),
    ) -> Result<Vec<String>> {
        let text = "SELECT backend_key FROM snapshot WHERE namespace = ?1 AND snapshotter = ?2 AND key = ?3";
        self.ask(text, [namespace, snapshotter, key], |row| row.get(0))
    }

    /// The keys of the snapshots that stand on one in its namespace.
    pub(crate) fn keys_on(
        &self,
        (namespace, snapshotter, parent): (&str, &str, &str),
    ) -> Result<Vec<String>> {
        let text =
            "SELECT key FROM snapshot WHERE namespace = ?1 AND snapshotter = ?2 AND parent = ?3 ORDER BY key";
        self.ask(text, [namespace, snapshotter, parent], |row| row.get(0))
    }

    /// The namespaces and snapshotters that have a snapshot under this key.
    pub(crate) fn snapshots_with_key(&self, key: &str) -> Result<Vec<(String, String)>> {
        let text =
            "SELECT namespace, snapshotter FROM snapshot WHERE key = ?1 ORDER BY namespace, snapshotter";
        self.ask(text, [key], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The containers that use a snapshot.
    pub(crate) fn users_of(&self, (namespace, snapshotter, key): (&str, &str, &str)) -> Result<Vec<String>> {
        let text = "SELECT id FROM container WHERE namespace = ?1 AND snapshotter = ?2 AND snapshot_key = ?3 ORDER BY id";
        self.ask(text, [namespace, snapshotter, key], |row| row.get(0))
    }

    /// The blobs of a namespace that refer to a blob.
    pub(crate) fn referrers_of_blob(&self, namespace: &str, digest: &str) -> Result<Vec<String>> {
        let text =
            "SELECT digest FROM reference WHERE namespace = ?1 AND target = ?2 AND snapshotter IS NULL";
        self.ask(text, [namespace, digest], |row| row.get(0))
    }

    /// The blobs of a namespace that refer to a snapshot.
    pub(crate) fn referrers_of_snapshot(
        &self,
        (namespace, snapshotter, key): (&str, &str, &str),
    ) -> Result<Vec<String>> {
        let text = "SELECT digest FROM reference WHERE namespace = ?1 AND target = ?2 AND snapshotter = ?3";
        self.ask(text, [namespace, key, snapshotter], |row| row.get(0))
    }

    /// The namespaces in which a blob is, or is referred to.
    pub(crate) fn namespaces_of_blob(&self, digest: &str) -> Result<Vec<String>> {
        let text = "SELECT namespace FROM blob WHERE digest = ?1
             UNION SELECT namespace FROM reference WHERE target = ?1 AND snapshotter IS NULL";
        self.ask(text, [digest], |row| row.get(0))
    }

    /// The images of a namespace whose target is this blob.
    pub(crate) fn images_of(&self, namespace: &str, target: &str) -> Result<Vec<String>> {
        let text = "SELECT name FROM image WHERE namespace = ?1 AND target = ?2";
        self.ask(text, [namespace, target], |row| row.get(0))
    }

    /// The containers of a namespace that were made from an image.
    pub(crate) fn containers_of(&self, namespace: &str, image: &str) -> Result<Vec<String>> {
        let text = "SELECT id FROM container WHERE namespace = ?1 AND image = ?2";
        self.ask(text, [namespace, image], |row| row.get(0))
    }
}

/// The labels that refer to something, with the snapshotter if it is a snapshot.
fn references(labels: Labels) -> impl Iterator<Item = (String, Option<String>, String)> {
    labels.into_iter().filter_map(|(label, target)| {
        if label.starts_with(CONTENT_REFERENCE) {
            return Some((label, None, target));
        }
        let rest = label.strip_prefix(SNAPSHOT_REFERENCE)?;
        let snapshotter = rest.split_once('/').map_or(rest, |(name, _)| name).to_owned();
        Some((label, Some(snapshotter), target))
    })
}

fn told(error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, "cannot sort the rows in the folder for temporary files").with_source(error)
}
