//! Work on all processors: a few threads that take items one by one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
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
    receiver: mpsc::Receiver<Result<R>>,
    cancel: Cancel,
}

impl<R> Results<R> {
    /// The next one, or that no more items could be had.
    pub(crate) async fn next(&mut self) -> Result<Option<R>> {
        self.receiver.recv().await.transpose()
    }
}

impl<R> Drop for Results<R> {
    fn drop(&mut self) {
        self.cancel.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` with every item, which is asked for when there is a thread for it. A result is lost if `work` panics; it does not.
pub(crate) fn run<T, R>(
    items: impl Iterator<Item = Result<T>> + Send + 'static,
    work: impl Fn(&T, &Cancel) -> R + Send + Sync + 'static,
) -> Result<Results<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let (sender, receiver) = mpsc::channel(WAITING_RESULTS);
    let cancel = Cancel::default();
    let shared = Arc::new((Mutex::new(items), work));
    for _ in 0..threads {
        let (shared, sender, cancel) = (Arc::clone(&shared), sender.clone(), cancel.clone());
        let serve = move || {
            let (items, work) = &*shared;
            loop {
                let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(item) = next else { return };
                let result = item.map(|item| work(&item, &cancel));
                if cancel.is_told() || sender.blocking_send(result).is_err() {
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
