//! Work on all processors: a few threads that take items one by one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use corten_types::{Error, Result};
use tokio::sync::mpsc;

/// More threads do not read faster from one disk.
const MOST_THREADS: usize = 8;

/// How many results may wait to be looked at.
const WAITING_RESULTS: usize = 64;

/// Told to stop when the one who waits for results goes away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(crate) fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Results in the order in which they are done. Dropping it makes the threads end soon.
pub(crate) struct Results<R> {
    receiver: mpsc::Receiver<R>,
    cancel: Cancel,
}

impl<R> Results<R> {
    pub(crate) async fn next(&mut self) -> Option<R> {
        self.receiver.recv().await
    }
}

impl<R> Drop for Results<R> {
    fn drop(&mut self) {
        self.cancel.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` with every item. A result is lost if `work` panics; it does not.
pub(crate) fn run<T, R>(
    items: Vec<T>,
    work: impl Fn(&T, &Cancel) -> R + Send + Sync + 'static,
) -> Result<Results<R>>
where
    T: Send + Sync + 'static,
    R: Send + 'static,
{
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(items.len());
    let (sender, receiver) = mpsc::channel(WAITING_RESULTS);
    let cancel = Cancel::default();
    let shared = Arc::new((items, AtomicUsize::new(0), work));
    for _ in 0..threads {
        let (shared, sender, cancel) = (Arc::clone(&shared), sender.clone(), cancel.clone());
        let serve = move || {
            let (items, next, work) = &*shared;
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                if cancel.is_told() || sender.blocking_send(work(item, &cancel)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("fsck".to_owned())
            .spawn(serve)
            .map_err(|error| Error::io("cannot start a thread to check with", error))?;
    }
    Ok(Results { receiver, cancel })
}
