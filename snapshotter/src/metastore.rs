//! What is known of snapshots, in a database: the same for every implementation that keeps its files here.

mod chains;
mod mending;
mod rows;
mod schema;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use corten_database::{Database, Doing, OpenReport, Options, Refusal, StoreId};
use corten_disk::Disk;
use corten_filter::Filters;
use corten_types::{Error, ErrorKind, Labels, Result, UpdateMask};

use crate::{Kind, SnapshotInfo, Usage};
use chains::Chains;

/// How many rows a read looks at before it lets the log be cut.
const PAGE_ROWS: usize = 256;

/// The reserve that lets removals commit on a full disk.
const RESERVE_BYTES: u64 = 1 << 20;

/// One snapshot as it is stored. It describes itself, so that other metadata can be rebuilt from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number: increasing, never used again, kept when it is committed. Folders are called after it.
    pub id: u64,
    /// The key it was made under, also once it is committed.
    pub key: String,
    /// What the contract tells of it.
    pub info: SnapshotInfo,
    /// What it takes, if it is committed.
    pub usage: Option<Usage>,
    /// The checksum of the manifest of its files, if it has one.
    pub manifest: Option<u32>,
}

/// A row and the numbers of the snapshots below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chained {
    pub(crate) row: Row,
    /// The nearest first.
    pub(crate) parents: Vec<u64>,
}

/// The rows of one snapshotter. Every call blocks; those that change return when the change is on stable storage.
#[derive(Debug)]
pub struct Metastore {
    database: Database,
    next_id: AtomicU64,
    chains: Chains,
}

impl Metastore {
    /// Opens the database `path` (absolute; its folder must exist), or creates it.
    ///
    /// # Errors
    /// Those of [`Database::open`].
    pub fn open(path: &Path, disk: Disk) -> Result<(Self, OpenReport)> {
        let options = Options {
            migrations: schema::MIGRATIONS,
            disk,
            readers: 2,
            reserve_bytes: RESERVE_BYTES,
            ..Options::default()
        };
        let (database, report) = Database::open(path, options)?;
        let last = database.read(rows::last_id)?;
        Ok((Self { database, next_id: AtomicU64::new(last + 1), chains: Chains::default() }, report))
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// The identity that the folders beside the database carry, too.
    #[must_use]
    pub fn store_id(&self) -> &StoreId {
        self.database.store_id()
    }

    /// What was found damaged is settled: the next open is healthy.
    ///
    /// # Errors
    /// Those of the database.
    pub fn release_quarantine(&self) -> Result<()> {
        self.database.release_quarantine().wait()
    }

    /// A number that no snapshot has, had, or will get. Not all of them are used.
    pub fn reserve_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Never hands out numbers up to `id`: a folder of that name is there.
    pub fn skip_ids_to(&self, id: u64) {
        self.next_id.fetch_max(id.saturating_add(1), Ordering::Relaxed);
    }

    /// The snapshot `key`. `key` may be the name of a committed one.
    ///
    /// # Errors
    /// `NotFound`: there is none. `DataLoss`: its row is damaged.
    pub fn get(&self, key: &str) -> Result<Row> {
        self.database.read(|connection| rows::required(connection, key))
    }

    /// The snapshot with this number, if there is one.
    ///
    /// # Errors
    /// `DataLoss`: its row is damaged.
    pub fn by_id(&self, id: u64) -> Result<Option<Row>> {
        self.database.read(|connection| rows::by_id(connection, id))
    }

    /// The committed snapshot that was made under `key`, if there is one: whether a commit whose answer was lost came
    /// through.
    ///
    /// # Errors
    /// `DataLoss`: its row is damaged.
    pub fn committed_from(&self, key: &str) -> Result<Option<Row>> {
        self.database.read(|connection| rows::committed_from(connection, key))
    }

    /// As [`SnapshotReader::list`](crate::SnapshotReader::list).
    ///
    /// # Errors
    /// `DataLoss`: a row is damaged.
    pub fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<SnapshotInfo>> {
        self.list_with(filters, after, limit, |row| row.info)
    }

    /// The same, with `tell` saying what is told of a row; filters look at that.
    pub(crate) fn list_with(
        &self,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
        tell: impl Fn(Row) -> SnapshotInfo,
    ) -> Result<Vec<SnapshotInfo>> {
        let mut found: Vec<SnapshotInfo> = Vec::new();
        let mut last = after.map(str::to_owned);
        while found.len() < limit {
            let page_rows =
                if filters.match_everything() { PAGE_ROWS.min(limit - found.len()) } else { PAGE_ROWS };
            let page = self.database.read(|connection| rows::page(connection, last.as_deref(), page_rows))?;
            let is_last = page.len() < page_rows;
            last = page.last().map(|row| row.info.name.clone());
            found.extend(page.into_iter().map(&tell).filter(|info| filters.matches(info)));
            if is_last {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Every row, by number.
    pub(crate) fn all(&self) -> Result<Vec<Row>> {
        let mut all: Vec<Row> = Vec::new();
        loop {
            let last = all.last().map(|row| row.info.name.clone());
            let page = self.database.read(|connection| rows::page(connection, last.as_deref(), PAGE_ROWS))?;
            let is_last = page.len() < PAGE_ROWS;
            all.extend(page);
            if is_last {
                all.sort_by_key(|row| row.id);
                return Ok(all);
            }
        }
    }

    /// The snapshot `key` and the numbers below it.
    pub(crate) fn chained(&self, key: &str) -> Result<Chained> {
        self.database.read(|connection| {
            let row = rows::required(connection, key)?;
            let parents = self.chains.below(connection, &row.info.parent)?;
            Ok(Chained { row, parents })
        })
    }

    /// The numbers that a new snapshot `key` on `parent` would stand on, the nearest first.
    pub(crate) fn check_new(&self, key: &str, parent: &str) -> Result<Vec<u64>> {
        self.database.read(|connection| {
            check_new(connection, key, parent)?;
            self.chains.below(connection, parent)
        })
    }

    /// Adds the snapshot `id`, whose folder is there and stands on `parents`.
    pub(crate) fn insert(&self, id: u64, info: SnapshotInfo, parents: Vec<u64>) -> Result<()> {
        let row = Row { id, key: info.name.clone(), info, usage: None, manifest: None };
        let operation = move |connection: &_| -> Result<(), Refusal> {
            // What the parent stands on is what it stood on when it was committed.
            if check_new(connection, &row.key, &row.info.parent)?.as_ref() != parents.first() {
                return Err(Error::unavailable(format!(
                    "cannot create snapshot {:?}: its parent {:?} was replaced meanwhile; try again",
                    row.key, row.info.parent
                ))
                .into());
            }
            rows::put(connection, &row)
        };
        self.database.run(operation)
    }

    /// Whether `key` can become `name` (row S05), and its row.
    pub(crate) fn check_commit(&self, name: &str, key: &str, parent: &str) -> Result<Row> {
        self.database.read(|connection| check_commit(connection, name, key, parent))
    }

    /// Makes the active snapshot `key`, which must still be number `id`, the committed `name`.
    pub(crate) fn commit(&self, change: Commit) -> Result<()> {
        let operation = move |connection: &_| -> Result<(), Refusal> {
            let Commit { id, name, key, labels, parent, usage, manifest, now } = &change;
            let mut row = check_commit(connection, name, key, parent)?;
            if row.id != *id {
                return Err(not_found(key).into());
            }
            row.info = SnapshotInfo {
                kind: Kind::Committed,
                name: name.clone(),
                parent: if parent.is_empty() { row.info.parent } else { parent.clone() },
                labels: labels.clone(),
                created_at: *now,
                updated_at: *now,
            };
            row.usage = Some(*usage);
            row.manifest = *manifest;
            rows::put(connection, &row)
        };
        self.database.run(operation)
    }

    /// As [`SnapshotKeeper::update`](crate::SnapshotKeeper::update).
    ///
    /// # Errors
    /// `NotFound`: there is no `key`. `InvalidArgument`: a path that cannot be changed. Nothing changed.
    pub fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<Row> {
        let (key, labels, mask) = (key.to_owned(), labels.clone(), mask.clone());
        let now = rows::now();
        let operation = move |connection: &_| -> Result<Row, Refusal> {
            let mut row = rows::required(connection, &key)?;
            change_labels(&mut row.info, &labels, &mask)?;
            row.info.updated_at = now;
            rows::put(connection, &row)?;
            Ok(row)
        };
        self.database.run(operation)
    }

    /// Removes the row of `key` and leaves a tombstone with its number.
    pub(crate) fn remove(&self, key: &str) -> Result<u64> {
        let key = key.to_owned();
        self.database.run_freeing(move |connection| bury(connection, &key), |_| ())
    }

    /// The same for several, in their order and in one transaction: a number, or why not, for each.
    ///
    /// # Errors
    /// Of the storage: none of them is removed.
    pub(crate) fn remove_all(&self, keys: &[String]) -> Result<Vec<Result<u64>>> {
        let keys = keys.to_vec();
        let operation = move |connection: &_| -> Result<Vec<Result<u64>>, Refusal> {
            keys.iter()
                .map(|key| match bury(connection, key) {
                    Ok(id) => Ok(Ok(id)),
                    Err(Refusal::Rollback(error) | Refusal::Commit(error)) => match error.kind() {
                        ErrorKind::NotFound | ErrorKind::FailedPrecondition => Ok(Err(error)),
                        _ => Err(error.into()),
                    },
                })
                .collect()
        };
        self.database.run_freeing(operation, |_| ())
    }

    /// The numbers of removed snapshots whose folders may still be there.
    pub(crate) fn tombstones(&self) -> Result<Vec<u64>> {
        self.database.read(rows::tombstones)
    }

    /// The folders of `ids` are gone.
    pub(crate) fn forget(&self, ids: Vec<u64>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.database.run_freeing(move |connection| rows::forget(connection, &ids), |_| ())
    }

    /// Serves what waits and closes the database. Later calls fail with `Unavailable`; a second close does nothing.
    ///
    /// # Errors
    /// Those of the disk. Everything acknowledged is durable all the same.
    pub fn close(&self) -> Result<()> {
        self.database.close()
    }
}

/// What turns an active snapshot into a committed one.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) labels: Labels,
    /// Empty: the parent stays as it is.
    pub(crate) parent: String,
    pub(crate) usage: Usage,
    pub(crate) manifest: Option<u32>,
    pub(crate) now: std::time::SystemTime,
}

pub(crate) use rows::now;

pub(crate) fn not_found(key: &str) -> Error {
    Error::not_found(format!("snapshot {key:?} does not exist"))
}

fn exists(key: &str) -> Error {
    Error::already_exists(format!("snapshot {key:?} exists"))
}

/// Removes the row of `key` unless others stand on it, and leaves a tombstone with its number.
fn bury(connection: &corten_database::rusqlite::Connection, key: &str) -> Result<u64, Refusal> {
    let row = rows::required(connection, key)?;
    if let Some(child) = rows::child_of(connection, key)? {
        let message = format!("cannot remove snapshot {key:?}: {child:?} stands on it");
        return Err(Error::failed_precondition(message).into());
    }
    rows::bury(connection, &row)?;
    Ok(row.id)
}

/// Rows S02 and S03: the parent first, as containerd looks. Tells the number of the parent, if there is one.
fn check_new(
    connection: &corten_database::rusqlite::Connection,
    key: &str,
    parent: &str,
) -> Result<Option<u64>, Refusal> {
    let mut found = None;
    if !parent.is_empty() {
        let below = rows::by_name(connection, parent)?
            .ok_or_else(|| Error::not_found(format!("parent snapshot {parent:?} does not exist")))?;
        if below.info.kind != Kind::Committed {
            return Err(
                Error::invalid_argument(format!("parent snapshot {parent:?} is not committed")).into()
            );
        }
        found = Some(below.id);
    }
    if rows::by_name(connection, key)?.is_some() {
        return Err(exists(key).into());
    }
    Ok(found)
}

/// Row S05: the name first, as containerd looks.
fn check_commit(
    connection: &corten_database::rusqlite::Connection,
    name: &str,
    key: &str,
    parent: &str,
) -> Result<Row, Refusal> {
    if rows::by_name(connection, name)?.is_some() {
        return Err(exists(name).into());
    }
    let row = rows::required(connection, key)?;
    if row.info.kind != Kind::Active {
        return Err(Error::failed_precondition(format!(
            "cannot commit snapshot {key:?}: it is {}, not active",
            row.info.kind.as_str()
        ))
        .into());
    }
    if !parent.is_empty() && parent != row.info.parent {
        if !row.info.parent.is_empty() {
            return Err(Error::invalid_argument(format!(
                "cannot put snapshot {key:?} on {parent:?}: it stands on {:?} already",
                row.info.parent
            ))
            .into());
        }
        let below = rows::by_name(connection, parent)?
            .ok_or_else(|| Error::not_found(format!("parent snapshot {parent:?} does not exist")))?;
        if below.info.kind != Kind::Committed {
            return Err(
                Error::failed_precondition(format!("parent snapshot {parent:?} is not committed")).into()
            );
        }
    }
    Ok(row)
}

/// Row S08. A label without a value is none.
fn change_labels(info: &mut SnapshotInfo, labels: &Labels, mask: &UpdateMask) -> Result<()> {
    if mask.replaces_all() {
        info.labels = labels.clone();
    }
    for path in mask.paths() {
        match (path.field, path.key) {
            ("labels", None) => info.labels = labels.clone(),
            ("labels", Some(key)) => {
                info.labels.insert(key.to_owned(), labels.get(key).cloned().unwrap_or_default());
            }
            _ => {
                let path =
                    path.key.map_or_else(|| path.field.to_owned(), |key| format!("{}.{key}", path.field));
                return Err(Error::invalid_argument(format!(
                    "cannot update {path:?} of snapshot {:?}: only labels can change",
                    info.name
                )));
            }
        }
    }
    info.labels.retain(|_, value| !value.is_empty());
    Ok(())
}

/// Numbers as SQLite keeps them.
fn stored(number: u64, what: &str) -> Result<i64> {
    i64::try_from(number)
        .map_err(|_| Error::out_of_range(format!("{what} {number} is too large to be stored")))
}

/// Reads a value of an error of the database with a sentence.
fn reading<T>(result: corten_database::rusqlite::Result<T>) -> Result<T> {
    result.doing("cannot read a snapshot's row")
}
