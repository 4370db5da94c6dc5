//! Collecting what nothing refers to (`consistency.md` §4; rows G07-G28).

mod condition;
mod courtesy;
mod edges;
mod graph;
mod pacer;
mod remover;
mod sweeper;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use corten_gc::{MonotonicClock, Sweep};
use corten_types::{Error, Result};
use tokio::sync::OwnedMutexGuard;

pub(crate) use pacer::Pacer;

use crate::{
    CollectionStats, Health, Metadata, Statistics, leases, metadata::Inner, node::Node,
    touched::MOST_TOUCHED_NODES,
};

/// With less time a batch would do little more than begin and commit.
const SHORTEST_BATCH: Duration = Duration::from_micros(250);

/// One collection at a time, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Collections {
    turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many have begun.
    begun: u64,
    /// The number of the last that succeeded, and what it did.
    last: Option<(u64, CollectionStats)>,
    statistics: Statistics,
}

impl Collections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn statistics(&self) -> Statistics {
        self.state().statistics
    }

    /// Waits until no collection runs, and lets none begin.
    pub(crate) async fn exclusive(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }
}

/// Collects whenever the pacer says so, until the store is closed or dropped.
pub(crate) fn serve(metadata: &Metadata, pacer: Arc<Pacer>) {
    let weak = Arc::downgrade(&metadata.inner);
    tokio::spawn(async move {
        while pacer.wait().await {
            let Some(inner) = Weak::<Inner>::upgrade(&weak) else { return };
            let metadata = Metadata { inner };
            if !metadata.health().is_healthy() {
                pacer.finished(Duration::ZERO);
                continue;
            }
            if let Err(error) = collect(&metadata).await {
                tracing::warn!(%error, cause = %error.chain(), "a collection failed");
            }
        }
    });
}

/// A collection whose mark begins after this call. Several callers that wait share one.
pub(crate) async fn collect(metadata: &Metadata) -> Result<CollectionStats> {
    if let Health::Quarantine { reason, .. } = metadata.health() {
        return Err(Error::failed_precondition(format!("nothing is collected in quarantine: {reason}")));
    }
    let collections = &metadata.inner.collections;
    let begun_before = collections.state().begun;
    let _turn = collections.exclusive().await;
    let number = {
        let mut state = collections.state();
        if let Some((number, stats)) = state.last
            && number > begun_before
        {
            return Ok(stats);
        }
        state.begun += 1;
        state.begun
    };
    metadata.pacer().begun();
    let result = run(metadata).await;
    if let Some(hook) = &metadata.inner.after_collection {
        hook();
    }
    let mut state = collections.state();
    match &result {
        Ok(stats) => {
            state.last = Some((number, *stats));
            state.statistics.succeeded += 1;
            state.statistics.rows_removed += stats.rows_removed;
            state.statistics.bytes_removed_of += stats.bytes_removed_of;
            metadata.pacer().finished(stats.marking);
        }
        Err(_) => {
            state.statistics.failed += 1;
            metadata.pacer().failed();
        }
    }
    result
}

/// Ends the gathering of touched nodes, however the collection ends.
struct Gathering<'a>(&'a Metadata);

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.inner.touched.end();
    }
}

async fn run(metadata: &Metadata) -> Result<CollectionStats> {
    let started = Instant::now();
    let touched = Arc::clone(&metadata.inner.touched);
    let _gathering = Gathering(metadata);
    // Between two commits: what was done before this is in the snapshot, what is done after it is gathered.
    metadata
        .inner
        .database
        .visit(move |_| {
            touched.begin();
            Ok(())
        })
        .await?;
    let now = SystemTime::now();
    let graph = metadata.read(move |connection| graph::read(connection, now)).await?;
    let nodes = graph.nodes() as u64;
    let sweep = crate::metadata::blocking(move || Ok(graph.mark())).await?;
    let marking = started.elapsed();
    let rows_removed = sweep_all(metadata, sweep).await?;
    leases::remove_leftovers(metadata).await?;
    let removed = remover::work_off(metadata).await?;
    Ok(CollectionStats {
        elapsed: started.elapsed(),
        marking,
        nodes,
        rows_removed,
        bytes_removed_of: removed.removed,
        postponed: removed.postponed,
    })
}

/// Removes rows in short transactions of the writer.
async fn sweep_all(metadata: &Metadata, sweep: Sweep<Node>) -> Result<u64> {
    // Asked for once: commits of the sweep's own count too, and are longer than those of others.
    let budget = batch_budget(metadata, metadata.inner.sweep_batch);
    let sweep = Arc::new(Mutex::new(sweep));
    let mut rows_removed = 0;
    let mut courtesy = courtesy::Courtesy::begin(metadata);
    loop {
        if lock(&sweep).is_finished() {
            return Ok(rows_removed);
        }
        let shared = Arc::clone(&sweep);
        let batch = metadata
            .write_freeing(move |change| {
                change.quiet();
                let mut sweeper = sweeper::Sweeper::new(change);
                Ok(lock(&shared).batch(&mut sweeper, &MonotonicClock::default(), budget)?)
            })
            .await?;
        rows_removed += batch.removed;
        lock(&sweep).accept(batch);
        courtesy.rest(1).await;
    }
}

/// A quarter of what a commit usually takes here, besides the commit of the batch itself: who waits behind a batch then waits little
/// longer than behind anybody else.
fn batch_budget(metadata: &Metadata, longest: Duration) -> Duration {
    let usual = metadata.inner.database.statistics().commit_micros.quantile(0.5);
    Duration::from_micros(usual / 4).clamp(SHORTEST_BATCH.min(longest), longest)
}

fn lock(sweep: &Mutex<Sweep<Node>>) -> MutexGuard<'_, Sweep<Node>> {
    sweep.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of a collection that was given up because writers did too much meanwhile.
fn overrun() -> Error {
    Error::unavailable(format!(
        "more than {MOST_TOUCHED_NODES} things changed during a collection; it is begun anew"
    ))
}
