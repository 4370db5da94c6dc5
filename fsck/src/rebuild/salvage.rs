//! Databases that were set aside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use corten_metadata::{Metadata, Stored};
use corten_snapshotter::{Inspector, Kind, Row};
use corten_types::{Error, ErrorKind, Result};

use super::Rebuilt;
use crate::{Store, catalogue::Catalogue, store::blocking};

/// The end of the name of a file that says that a database was read.
const READ_MARK: &str = ".salvaged";

/// The databases beside `database` that were set aside and not read yet, the newest first.
fn set_aside(database: &Path) -> Vec<PathBuf> {
    let folder = database.parent().unwrap_or(Path::new("/"));
    let name = database.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}.damaged-");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix) && crate::aside::is_aside(name))
        .map(|name| folder.join(name))
        .filter(|path| !mark_of(path).exists())
        .collect();
    found.sort_by(|first, second| second.cmp(first));
    found
}

fn mark_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(READ_MARK);
    name.into()
}

fn databases(store: &Store) -> Vec<PathBuf> {
    let metastores = store.snapshotters.values().map(|inspector| inspector.root().join("metastore.db"));
    metastores.chain([store.metadata.database_path().to_owned()]).collect()
}

/// What was read once is not read again: what was removed since would come back.
pub(super) fn mark_read(store: &Store) -> Result<()> {
    for path in databases(store).iter().flat_map(|database| set_aside(database)) {
        let mark = mark_of(&path);
        store
            .disk
            .replace_file(&mark, b"its rows were taken over\n", 0o600)
            .map_err(|error| Error::io(format!("cannot write {}", mark.display()), error))?;
    }
    Ok(())
}

fn scratch_beside(database: &Path) -> Result<tempfile::TempDir> {
    let folder = database.parent().unwrap_or(Path::new("/"));
    tempfile::Builder::new()
        .prefix("salvage-")
        .tempdir_in(folder)
        .map_err(|error| Error::io(format!("cannot make a folder in {}", folder.display()), error))
}

pub(super) async fn snapshotters(store: &Store, rebuilt: &mut Rebuilt) -> Result<()> {
    for inspector in store.snapshotters.values() {
        for path in set_aside(&inspector.root().join("metastore.db")) {
            let (reading, inspector) = (path.clone(), inspector.clone());
            let taken = blocking(move || take_over(&inspector, &reading)).await;
            let count = noted(taken, &path, rebuilt)?;
            rebuilt.snapshotter_rows += count;
        }
    }
    Ok(())
}

/// The rows of snapshots whose files are there.
fn take_over(inspector: &Inspector, path: &Path) -> Result<(u64, bool)> {
    let scratch = scratch_beside(path)?;
    let (rows, complete) = Inspector::salvage(path, scratch.path())?;
    let folders = inspector.folders()?;
    let gone = inspector.tombstones()?;
    let is_there =
        |row: &Row| !gone.contains(&row.id) && (folders.ids.contains(&row.id) || row.info.kind == Kind::View);
    let rows = rows.into_iter().filter(is_there).collect();
    Ok((inspector.restore(rows)?.len() as u64, complete))
}

pub(super) async fn metadata(store: &Store, rebuilt: &mut Rebuilt) -> Result<()> {
    for path in set_aside(store.metadata.database_path()) {
        let taken = take_metadata_over(store, &path).await;
        let count = noted(taken, &path, rebuilt)?;
        rebuilt.rows += count;
    }
    Ok(())
}

async fn take_metadata_over(store: &Store, path: &Path) -> Result<(u64, bool)> {
    let scratch = scratch_beside(path)?;
    let salvaged = Metadata::salvage(path, scratch.path()).await?;
    let catalogue = Catalogue::read(store).await?;
    catalogue.read_files(&store.content).await?;
    let is_there = |row: &Stored| -> Result<bool> {
        match row {
            Stored::Blob(row) => catalogue.has_file(row.digest.as_str()),
            Stored::Snapshot(row) => {
                // Of a snapshotter that is not looked at nobody knows better.
                if !store.snapshotters.contains_key(&row.snapshotter) {
                    return Ok(true);
                }
                let pending = row.pending.as_ref().map(|pending| pending.backend_name.as_str());
                for name in std::iter::once(row.backend_key.as_str()).chain(pending) {
                    if !catalogue.trees_called(&row.snapshotter, name)?.is_empty() {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Stored::Damaged(_) => Ok(false),
            _ => Ok(true),
        }
    };
    let mut rows = Vec::new();
    for row in salvaged.rows {
        if is_there(&row)? {
            rows.push(row);
        }
    }
    let restored = store.metadata.restore(rows).await?;
    store.metadata.restore_resources(salvaged.resources).await?;
    Ok((restored.len() as u64, salvaged.is_complete && salvaged.damaged == 0))
}

/// Of a database of which nothing can be read, nothing can be taken over: that is no reason to stop.
fn noted(taken: Result<(u64, bool)>, path: &Path, rebuilt: &mut Rebuilt) -> Result<u64> {
    let (count, complete) = match taken {
        Err(error) if error.kind() == ErrorKind::DataLoss => {
            tracing::warn!(path = %path.display(), error = error.chain(), "nothing can be read of it");
            (0, false)
        }
        taken => taken?,
    };
    rebuilt.read.push((path.display().to_string(), complete));
    Ok(count)
}
