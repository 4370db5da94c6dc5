//! Working off tombstones: bytes go after their rows (`consistency.md` §2; G26, G27).

use std::sync::Arc;

use corten_snapshotter::Snapshotter;
use corten_types::{Digest, ErrorKind, Result};

use crate::{
    Metadata,
    content::{self, BLOBS, INGESTS},
    resources::{self, RESOURCES},
    row, sequence, snapshots,
};

/// How many tombstones are cleared in one transaction.
const CLEARED_TOGETHER: usize = 256;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removed {
    pub(super) removed: u64,
    pub(super) postponed: u64,
}

#[derive(Clone, Debug)]
struct Tombstone {
    number: i64,
    kind: String,
    id: String,
}

/// What became of the bytes of one tombstone.
enum Fate {
    Removed,
    /// Somebody needs them again, or they were gone.
    Nothing,
    /// Not now: the tombstone stays.
    Postponed,
}

/// Removes the bytes of every tombstone that was there at the call, as far as that is possible now.
pub(super) async fn work_off(metadata: &Metadata) -> Result<Removed> {
    let mut tombstones = read(metadata).await?;
    // Snapshots that stand on others have greater numbers, and go first.
    tombstones.sort_by_key(|tombstone| std::cmp::Reverse(sequence::of_name(&tombstone.id)));
    let mut total = Removed::default();
    let mut done = Vec::new();
    let mut cleaned: Vec<String> = Vec::new();
    for tombstone in tombstones {
        match remove(metadata, &tombstone).await {
            Ok(Fate::Removed) => total.removed += 1,
            Ok(Fate::Nothing) => {}
            Ok(Fate::Postponed) => {
                total.postponed += 1;
                continue;
            }
            Err(error) => {
                tracing::warn!(kind = %tombstone.kind, id = %tombstone.id, %error, "bytes without a row stay for now");
                total.postponed += 1;
                continue;
            }
        }
        if let Some(snapshotter) = tombstone.kind.strip_prefix("snapshots/")
            && !cleaned.iter().any(|known| known == snapshotter)
        {
            cleaned.push(snapshotter.to_owned());
        }
        done.push(tombstone.number);
        if done.len() == CLEARED_TOGETHER {
            clear(metadata, std::mem::take(&mut done)).await?;
        }
    }
    if !done.is_empty() {
        clear(metadata, done).await?;
    }
    for name in cleaned {
        if let Some(snapshotter) = metadata.snapshotter(&name) {
            cleanup(&name, &snapshotter).await;
        }
    }
    Ok(total)
}

async fn read(metadata: &Metadata) -> Result<Vec<Tombstone>> {
    metadata
        .read(|connection| {
            let mut found = Vec::new();
            row::query(connection, "SELECT number, kind, id FROM tombstones", [], |row| {
                found.push(Tombstone { number: row.get(0)?, kind: row.get(1)?, id: row.get(2)? });
                Ok(())
            })?;
            Ok(found)
        })
        .await
}

/// A tombstone that was written meanwhile for the same bytes has another number, and stays.
async fn clear(metadata: &Metadata, numbers: Vec<i64>) -> Result<()> {
    metadata
        .write_freeing(move |change| {
            change.quiet();
            for number in &numbers {
                row::execute(change.connection, "DELETE FROM tombstones WHERE number = ?1", [number])?;
            }
            Ok(())
        })
        .await
}

async fn remove(metadata: &Metadata, tombstone: &Tombstone) -> Result<Fate> {
    match tombstone.kind.as_str() {
        BLOBS => remove_blob(metadata, tombstone.id.parse()?).await,
        INGESTS => fate(metadata.content().abort(&tombstone.id).await),
        kind => match kind.strip_prefix("snapshots/") {
            Some(name) => remove_snapshot(metadata, name, &tombstone.id).await,
            None => match kind.strip_prefix(RESOURCES) {
                Some(kind) => remove_resource(metadata, kind, &tombstone.id).await,
                None => Ok(Fate::Nothing),
            },
        },
    }
}

/// Numbers are never given twice, so nobody can begin to need it now.
async fn remove_resource(metadata: &Metadata, kind: &str, number: &str) -> Result<Fate> {
    let Ok(number) = number.parse() else { return Ok(Fate::Nothing) };
    let Some(collectible) = metadata.inner.collectibles.get(kind).cloned() else {
        return Ok(Fate::Postponed);
    };
    let wanted = kind.to_owned();
    if metadata.read(move |connection| resources::is_owned(connection, &wanted, number)).await? {
        return Ok(Fate::Nothing);
    }
    fate(collectible.remove(number).await)
}

/// Under the lock of the digest, so that nobody who commits it now loses it.
async fn remove_blob(metadata: &Metadata, digest: Digest) -> Result<Fate> {
    let _guard = metadata.digest_locks().lock(digest.as_str()).await;
    let wanted = digest.clone();
    if metadata.read(move |connection| content::is_needed(connection, &wanted)).await? {
        return Ok(Fate::Nothing);
    }
    fate(metadata.content().delete(&digest).await)
}

async fn remove_snapshot(metadata: &Metadata, name: &str, backend_key: &str) -> Result<Fate> {
    let Some(snapshotter) = metadata.snapshotter(name) else { return Ok(Fate::Postponed) };
    let (wanted, key) = (name.to_owned(), backend_key.to_owned());
    if metadata.read(move |connection| snapshots::is_owned(connection, &wanted, &key)).await? {
        return Ok(Fate::Nothing);
    }
    match snapshotter.remove(backend_key).await {
        Err(error) if error.kind() == ErrorKind::FailedPrecondition => {
            tracing::debug!(snapshotter = %name, key = %backend_key, %error, "others still stand on this snapshot");
            Ok(Fate::Postponed)
        }
        result => fate(result),
    }
}

fn fate(result: Result<()>) -> Result<Fate> {
    match result {
        Ok(()) => Ok(Fate::Removed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Fate::Nothing),
        Err(error) => Err(error),
    }
}

async fn cleanup(name: &str, snapshotter: &Arc<dyn Snapshotter>) {
    if let Err(error) = snapshotter.cleanup().await
        && error.kind() != ErrorKind::Unimplemented
    {
        tracing::warn!(snapshotter = %name, %error, "a snapshotter could not clean up");
    }
}
