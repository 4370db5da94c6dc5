//! The scheduler with a clock, and somebody to wake.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use corten_gc::{Schedule, Scheduler};
use tokio::sync::Notify;

/// Tells the scheduler the time, and its owner when to act.
#[derive(Debug)]
pub(crate) struct Pacer {
    began: Instant,
    scheduler: Mutex<Scheduler>,
    changed: Notify,
    closed: AtomicBool,
}

impl Pacer {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            began: Instant::now(),
            scheduler: Mutex::new(Scheduler::new(schedule, Duration::ZERO)),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Waits until it is time for a collection; `false` once the store is closed.
    pub(crate) async fn wait(&self) -> bool {
        loop {
            if self.closed.load(Ordering::Acquire) {
                return false;
            }
            let deadline = self.scheduler().deadline();
            match deadline {
                None => self.changed.notified().await,
                Some(deadline) => {
                    let instant = tokio::time::Instant::from_std(self.began + deadline);
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(instant) => {}
                    }
                }
            }
            if self.scheduler().poll(self.began.elapsed()) {
                return !self.closed.load(Ordering::Acquire);
            }
        }
    }

    pub(crate) fn changed(&self, deleted: bool) {
        self.tell(|scheduler, now| scheduler.changed(deleted, now));
    }

    pub(crate) fn begun(&self) {
        self.tell(|scheduler, _| scheduler.begun());
    }

    pub(crate) fn finished(&self, pause: Duration) {
        self.tell(|scheduler, now| scheduler.finished(pause, now));
    }

    pub(crate) fn failed(&self) {
        self.tell(Scheduler::failed);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: impl FnOnce(&mut Scheduler, Duration)) {
        let moved = {
            let mut scheduler = self.scheduler();
            let before = scheduler.deadline();
            what(&mut scheduler, self.began.elapsed());
            scheduler.deadline() != before
        };
        if moved {
            self.changed.notify_one();
        }
    }
}
