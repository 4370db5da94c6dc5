//! When to collect: a state machine that is told of changes and of the time, and says when to act.

use std::time::Duration;

/// The knobs, with containerd's names and defaults (P16).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The greatest part of the time that collections may take, 0 to 0.5; more is taken as 0.5 (G23). With 0 the
    /// interval stays at one second.
    pub pause_threshold: f64,
    /// That many deletions do not wait for the interval to be over. With 0 no number of them does that.
    pub deletion_threshold: u32,
    /// That many changes of any kind are followed by a collection, even if nothing was deleted; 0 for never.
    pub mutation_threshold: u32,
    /// How long a collection that was asked for waits for more to do.
    pub schedule_delay: Duration,
    /// How long the first collection waits; with 0 there is none until something changes.
    pub startup_delay: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            pause_threshold: 0.02,
            deletion_threshold: 0,
            mutation_threshold: 100,
            schedule_delay: Duration::ZERO,
            startup_delay: Duration::from_millis(100),
        }
    }
}

/// The interval before anything was measured.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// A collection counts as no shorter than this (G23).
const SHORTEST_COLLECTION: Duration = Duration::from_millis(5);
/// Added to the wait after each failure in a row (G25).
const RETRY_STEP: Duration = Duration::from_secs(1);
/// The longest wait after failures.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// Decides when to collect. It has no clock and no thread: `now` is the time since any fixed instant.
///
/// The owner tells it of changes, sleeps until [`deadline`](Self::deadline), asks [`poll`](Self::poll), collects, and
/// tells it how that went. When nothing changes there is no deadline: an idle owner is not woken.
#[derive(Clone, Debug)]
pub struct Scheduler {
    schedule: Schedule,
    deletions: u32,
    mutations: u32,
    triggered: bool,
    running: bool,
    deadline: Option<Duration>,
    quiet_until: Duration,
    interval: Duration,
    wait: Duration,
    spent: Duration,
    collections: u32,
}

impl Scheduler {
    /// A scheduler that begins at `now`.
    #[must_use]
    pub fn new(schedule: Schedule, now: Duration) -> Self {
        let first = schedule.startup_delay;
        Self {
            schedule,
            deletions: 0,
            mutations: 0,
            triggered: false,
            running: false,
            deadline: (!first.is_zero()).then(|| now + first),
            quiet_until: now,
            interval: FIRST_INTERVAL,
            wait: first,
            spent: Duration::ZERO,
            collections: 0,
        }
    }

    /// Something changed; `deleted` if something may have become garbage (G22).
    pub fn changed(&mut self, deleted: bool, now: Duration) {
        self.mutations = self.mutations.saturating_add(1);
        if deleted {
            self.deletions = self.deletions.saturating_add(1);
        }
        self.plan(now);
    }

    /// Somebody asks for a collection: it waits for no interval.
    pub fn trigger(&mut self, now: Duration) {
        self.triggered = true;
        self.plan(now);
    }

    /// When to poll; `None` while there is nothing to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if self.running { None } else { self.deadline }
    }

    /// Whether to collect now. If so, [`finished`](Self::finished) or [`failed`](Self::failed) must follow.
    pub fn poll(&mut self, now: Duration) -> bool {
        if self.running || self.deadline.is_none_or(|deadline| now < deadline) {
            return false;
        }
        self.deadline = None;
        self.running = true;
        self.deletions = 0;
        self.mutations = 0;
        self.triggered = false;
        true
    }

    /// A collection that nobody polled for begins: what changed before needs no other.
    pub fn begun(&mut self) {
        self.deadline = None;
        self.running = true;
        self.deletions = 0;
        self.mutations = 0;
        self.triggered = false;
    }

    /// The collection is done and held others up for `pause`.
    pub fn finished(&mut self, pause: Duration, now: Duration) {
        self.running = false;
        self.spent += pause;
        self.collections = self.collections.saturating_add(1);
        self.interval = self.next_interval();
        self.wait = self.interval;
        self.quiet_until = now + self.interval;
        self.plan(now);
    }

    /// The collection failed; it is tried again after the last wait and a second more (G25).
    pub fn failed(&mut self, now: Duration) {
        self.running = false;
        self.wait = (self.wait + RETRY_STEP).min(LONGEST_RETRY);
        self.quiet_until = now + self.wait;
        self.deadline = Some(self.quiet_until);
    }

    /// The least time between two collections that nobody asked for.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    fn next_interval(&self) -> Duration {
        let threshold = self.schedule.pause_threshold.clamp(0.0, 0.5);
        if threshold <= 0.0 {
            return FIRST_INTERVAL;
        }
        let average = (self.spent / self.collections.max(1)).max(SHORTEST_COLLECTION).as_secs_f64();
        Duration::try_from_secs_f64(average / threshold - average).unwrap_or(LONGEST_RETRY)
    }

    fn plan(&mut self, now: Duration) {
        if self.running {
            return;
        }
        let soon = now + self.schedule.schedule_delay;
        let Schedule { deletion_threshold, mutation_threshold, .. } = self.schedule;
        let many_deletions = deletion_threshold > 0 && self.deletions >= deletion_threshold;
        let many_mutations = mutation_threshold > 0 && self.mutations >= mutation_threshold;
        let wanted = if self.triggered || many_deletions {
            soon
        } else if many_mutations || (self.deletions > 0 && deletion_threshold == 0) {
            soon.max(self.quiet_until)
        } else if self.deletions > 0 {
            (now + self.interval).max(self.quiet_until)
        } else {
            return;
        };
        self.deadline = Some(self.deadline.map_or(wanted, |planned| planned.min(wanted)));
    }
}

#[cfg(test)]
mod tests;
