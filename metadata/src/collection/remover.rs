//! Working off tombstones: bytes go after their rows (`consistency.md` §2; G26, G27).

use std::{collections::BTreeSet, sync::Arc};

use corten_database::rusqlite::Connection;
use corten_snapshotter::Snapshotter;
use corten_types::{Digest, Error, ErrorKind, Result};
use tokio::task::JoinSet;

use super::courtesy::Courtesy;
use crate::{
    Metadata,
    content::{self, BLOBS, INGESTS},
    resources::{self, RESOURCES},
    row, sequence, snapshots,
};

/// How many tombstones are in memory at once.
const PAGE: usize = 4096;

/// How many blobs are removed under one look at the rows, with one sync, while their digests are locked.
const BLOBS_TOGETHER: usize = 64;

/// How many snapshots of one snapshotter are removed in one go.
const SNAPSHOTS_TOGETHER: usize = 16;

/// How many such goes there are at the same time: large trees take long.
const GOES_TOGETHER: usize = 4;

/// How many other things are removed at the same time.
const OTHERS_TOGETHER: usize = 16;

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

impl Tombstone {
    /// Whose snapshot it is, if it is one.
    fn snapshotter(&self) -> Option<&str> {
        self.kind.strip_prefix("snapshots/")
    }
}

/// What became of the bytes of one tombstone.
enum Fate {
    Removed,
    /// Somebody needs them again, or they were gone.
    Nothing,
    /// Not now: the tombstone stays.
    Postponed,
}

/// What became of tombstones so far.
#[derive(Default)]
struct Tally {
    total: Removed,
    /// The tombstones that have done their duty and are not cleared yet.
    done: Vec<i64>,
    /// The snapshotters that something was removed from.
    cleaned: BTreeSet<String>,
}

impl Tally {
    fn note(&mut self, tombstone: &Tombstone, fate: Result<Fate>) {
        match fate {
            Ok(Fate::Removed) => self.total.removed += 1,
            Ok(Fate::Nothing) => {}
            Ok(Fate::Postponed) => {
                self.total.postponed += 1;
                return;
            }
            Err(error) => {
                tracing::warn!(kind = %tombstone.kind, id = %tombstone.id, %error, "bytes without a row stay for now");
                self.total.postponed += 1;
                return;
            }
        }
        if let Some(snapshotter) = tombstone.snapshotter() {
            self.cleaned.insert(snapshotter.to_owned());
        }
        self.done.push(tombstone.number);
    }
}

/// Removes the bytes of every tombstone that was there at the call, as far as that is possible now.
pub(super) async fn work_off(metadata: &Metadata) -> Result<Removed> {
    let mut tally = Tally::default();
    let newest = metadata.read(newest).await?;
    let mut after = 0;
    loop {
        let page = read(metadata, after, newest).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        let (blobs, others): (Vec<_>, Vec<_>) =
            page.into_iter().partition(|tombstone| tombstone.kind == BLOBS);
        let (snapshots, others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|tombstone| tombstone.snapshotter().is_some());
        let mut courtesy = Courtesy::begin(metadata);
        for together in blobs.chunks(BLOBS_TOGETHER) {
            remove_blobs(metadata, together, &mut tally).await?;
            clear(metadata, std::mem::take(&mut tally.done)).await?;
            courtesy.rest(1).await;
        }
        // Mounts go before what they show.
        for together in others.chunks(at_once(metadata, OTHERS_TOGETHER)) {
            remove_others(metadata, together, &mut tally).await;
        }
        clear(metadata, std::mem::take(&mut tally.done)).await?;
        remove_snapshots(metadata, snapshots, &mut tally).await?;
    }
    for name in tally.cleaned {
        if let Some(snapshotter) = metadata.snapshotter(&name) {
            cleanup(&name, &snapshotter).await;
        }
    }
    Ok(tally.total)
}

fn newest(connection: &Connection) -> Result<i64> {
    let mut newest = 0;
    row::query(connection, "SELECT ifnull(max(number), 0) FROM tombstones", [], |row| {
        newest = row.get(0)?;
        Ok(())
    })?;
    Ok(newest)
}

async fn read(metadata: &Metadata, after: i64, newest: i64) -> Result<Vec<Tombstone>> {
    metadata
        .read(move |connection| {
            let mut found = Vec::new();
            let text = "SELECT number, kind, id FROM tombstones
                 WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3";
            row::query(connection, text, (after, newest, PAGE), |row| {
                found.push(Tombstone { number: row.get(0)?, kind: row.get(1)?, id: row.get(2)? });
                Ok(())
            })?;
            Ok(found)
        })
        .await
}

/// A tombstone that was written meanwhile for the same bytes has another number, and stays.
async fn clear(metadata: &Metadata, mut numbers: Vec<i64>) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    numbers.sort_unstable();
    metadata
        .write_freeing(move |change| {
            change.quiet();
            // Most of them were written one after the other.
            for run in numbers.chunk_by(|one, next| *next == one + 1) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
                let text = "DELETE FROM tombstones WHERE number BETWEEN ?1 AND ?2";
                row::execute(change.connection, text, [first, last])?;
            }
            Ok(())
        })
        .await
}

async fn remove(metadata: &Metadata, tombstone: &Tombstone) -> Result<Fate> {
    match tombstone.kind.as_str() {
        INGESTS => fate(metadata.content().abort(&tombstone.id).await),
        kind => match kind.strip_prefix(RESOURCES) {
            Some(kind) => remove_resource(metadata, kind, &tombstone.id).await,
            None => Ok(Fate::Nothing),
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

/// Under the locks of the digests, so that nobody who commits one now loses it. It takes those that nobody holds, together
/// and without waiting, so that no circle of waiting can come about; then the others, one by one.
async fn remove_blobs(metadata: &Metadata, tombstones: &[Tombstone], tally: &mut Tally) -> Result<()> {
    let (mut free, mut held) = (Vec::new(), Vec::new());
    for tombstone in tombstones {
        match metadata.digest_locks().try_lock(&tombstone.id) {
            Some(guard) => free.push((tombstone, guard)),
            None => held.push(tombstone),
        }
    }
    let (free, guards): (Vec<&Tombstone>, Vec<_>) = free.into_iter().unzip();
    remove_locked(metadata, &free, tally).await?;
    drop(guards);
    for tombstone in held {
        let _guard = metadata.digest_locks().lock(&tombstone.id).await;
        remove_locked(metadata, &[tombstone], tally).await?;
    }
    Ok(())
}

async fn remove_locked(metadata: &Metadata, tombstones: &[&Tombstone], tally: &mut Tally) -> Result<()> {
    let mut digests: Vec<Digest> = Vec::with_capacity(tombstones.len());
    for tombstone in tombstones {
        digests.push(tombstone.id.parse()?);
    }
    let asked = digests.clone();
    let needed: Vec<bool> = metadata
        .read(move |connection| asked.iter().map(|digest| content::is_needed(connection, digest)).collect())
        .await?;
    let mut needed = needed.iter();
    digests.retain(|_| !*needed.next().unwrap_or(&true));
    let mut results = digests.iter().zip(metadata.content().delete_all(&digests).await).peekable();
    for tombstone in tombstones {
        // Twice the same digest is possible: it is under one lock, and the second finds nothing.
        let result = results.next_if(|(digest, _)| digest.as_str() == tombstone.id);
        tally.note(tombstone, result.map_or(Ok(Fate::Nothing), |(_, result)| fate(result)));
    }
    Ok(())
}

/// How many things may happen at the same time. A script counts operations, which are to come in one order.
fn at_once(metadata: &Metadata, usually: usize) -> usize {
    if metadata.inner.disk.seam().is_some() { 1 } else { usually }
}

async fn remove_others(metadata: &Metadata, tombstones: &[Tombstone], tally: &mut Tally) {
    let mut running = JoinSet::new();
    for tombstone in tombstones {
        let (metadata, tombstone) = (metadata.clone(), tombstone.clone());
        running.spawn(async move {
            let fate = remove(&metadata, &tombstone).await;
            vec![(tombstone, fate)]
        });
    }
    ended(running, tally).await.into_iter().for_each(|(tombstone, fate)| tally.note(&tombstone, fate));
}

/// Snapshots that stand on others have greater numbers, and go first. Those that others still stand on are tried again as long as
/// something else goes.
async fn remove_snapshots(metadata: &Metadata, mut waiting: Vec<Tombstone>, tally: &mut Tally) -> Result<()> {
    waiting.sort_by(|one, other| {
        let order = |tombstone: &Tombstone| std::cmp::Reverse(sequence::of_name(&tombstone.id));
        one.kind.cmp(&other.kind).then_with(|| order(one).cmp(&order(other)))
    });
    let mut courtesy = Courtesy::begin(metadata);
    loop {
        let mut postponed = Vec::new();
        let goes: Vec<&[Tombstone]> = waiting
            .chunk_by(|one, other| one.kind == other.kind)
            .flat_map(|of_one| of_one.chunks(SNAPSHOTS_TOGETHER))
            .collect();
        for together in goes.chunks(at_once(metadata, GOES_TOGETHER)) {
            let mut running = JoinSet::new();
            for go in together {
                let (metadata, go) = (metadata.clone(), go.to_vec());
                running.spawn(async move { remove_together(&metadata, go).await });
            }
            for (tombstone, fate) in ended(running, tally).await {
                match fate {
                    Ok(Fate::Postponed) => postponed.push(tombstone),
                    fate => tally.note(&tombstone, fate),
                }
            }
            if tally.done.len() >= BLOBS_TOGETHER {
                clear(metadata, std::mem::take(&mut tally.done)).await?;
            }
            courtesy.rest(1).await;
        }
        clear(metadata, std::mem::take(&mut tally.done)).await?;
        if postponed.is_empty() || postponed.len() == waiting.len() {
            postponed.iter().for_each(|tombstone| tally.note(tombstone, Ok(Fate::Postponed)));
            return Ok(());
        }
        waiting = postponed;
    }
}

/// What tasks did. The tombstones of one that panicked stay.
async fn ended(
    mut running: JoinSet<Vec<(Tombstone, Result<Fate>)>>,
    tally: &mut Tally,
) -> Vec<(Tombstone, Result<Fate>)> {
    let mut fates = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(some) => fates.extend(some),
            Err(error) => {
                tracing::warn!(%error, "a removal panicked; its tombstones stay");
                tally.total.postponed += 1;
            }
        }
    }
    fates
}

/// Removes snapshots of one snapshotter that no namespace has a row for.
async fn remove_together(metadata: &Metadata, tombstones: Vec<Tombstone>) -> Vec<(Tombstone, Result<Fate>)> {
    let name = tombstones.first().and_then(Tombstone::snapshotter).unwrap_or_default().to_owned();
    let Some(snapshotter) = metadata.snapshotter(&name) else {
        return tombstones.into_iter().map(|tombstone| (tombstone, Ok(Fate::Postponed))).collect();
    };
    let (wanted, asked) = (name.clone(), tombstones.clone());
    let owned = metadata.read(move |connection| {
        asked.iter().map(|asked| snapshots::is_owned(connection, &wanted, &asked.id)).collect()
    });
    let owned: Vec<bool> = match owned.await {
        Ok(owned) => owned,
        Err(error) => {
            let again = || Error::new(error.kind(), error.chain());
            return tombstones.into_iter().map(|tombstone| (tombstone, Err(again()))).collect();
        }
    };
    let mut owned = owned.into_iter();
    let (needed, free): (Vec<_>, Vec<_>) = tombstones.into_iter().partition(|_| owned.next().unwrap_or(true));
    let keys: Vec<String> = free.iter().map(|tombstone| tombstone.id.clone()).collect();
    let results = if keys.is_empty() { Vec::new() } else { snapshotter.remove_all(&keys).await };
    let removed = free.into_iter().zip(results).map(|(tombstone, result)| {
        let fate = match result {
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => {
                tracing::debug!(snapshotter = %name, key = %tombstone.id, %error, "others still stand on this snapshot");
                Ok(Fate::Postponed)
            }
            result => fate(result),
        };
        (tombstone, fate)
    });
    needed.into_iter().map(|tombstone| (tombstone, Ok(Fate::Nothing))).chain(removed).collect()
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
