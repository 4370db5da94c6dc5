//! Putting a damaged database aside. Nothing is deleted.

use std::path::{Path, PathBuf};

use corten_disk::Disk;
use corten_types::{Error, Result};
use rusqlite::Connection;

use crate::{error::Doing, marker::beside};

/// Renames the database and its log to a dated name that is free, and answers with it.
pub(crate) fn set_aside(disk: &Disk, path: &Path) -> Result<PathBuf> {
    let name = free_name(path)?;
    // The log last: while it has its old name the next open knows that there was a database, marker or not.
    for suffix in ["", "-journal", "-wal"] {
        let from = beside(path, suffix);
        if from.symlink_metadata().is_err() {
            continue;
        }
        disk.rename(&from, &beside(&name, suffix))
            .map_err(|error| Error::io(format!("cannot set {} aside", from.display()), error))?;
    }
    // Shared memory of processes that are gone: it holds nothing, and a new database must not find it.
    let _ = std::fs::remove_file(beside(path, "-shm"));
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    disk.sync_folder(folder)
        .map_err(|error| Error::io(format!("cannot sync the folder {}", folder.display()), error))?;
    Ok(name)
}

fn free_name(path: &Path) -> Result<PathBuf> {
    let date: String = Connection::open_in_memory()
        .and_then(|clock| clock.query_row("SELECT strftime('%Y%m%dT%H%M%SZ')", [], |row| row.get(0)))
        .doing("cannot ask for the date")?;
    let dated = beside(path, &format!(".damaged-{date}"));
    let is_free = |name: &Path| {
        ["", "-journal", "-wal"].iter().all(|suffix| beside(name, suffix).symlink_metadata().is_err())
    };
    let candidates = (2..1000).map(|number| beside(&dated, &format!("-{number}")));
    std::iter::once(dated.clone())
        .chain(candidates)
        .find(|name| is_free(name))
        .ok_or_else(|| Error::resource_exhausted(format!("too many files are named {}-*", dated.display())))
}
