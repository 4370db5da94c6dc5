//! What the writer did so far, in numbers.

use std::time::Duration;

/// Counts in classes that double: class `n` counts values from `2^(n-1)` to `2^n - 1`, class 0 the zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    classes: [u64; Self::CLASSES],
    count: u64,
    sum: u64,
    largest: u64,
}

impl Histogram {
    /// The number of classes; larger values are in the last.
    pub const CLASSES: usize = 32;

    pub(crate) fn record(&mut self, value: u64) {
        let class = (u64::BITS - value.leading_zeros()) as usize;
        self.classes[class.min(Self::CLASSES - 1)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.largest = self.largest.max(value);
    }

    pub(crate) fn record_time(&mut self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The counts.
    #[must_use]
    pub fn classes(&self) -> &[u64; Self::CLASSES] {
        &self.classes
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.largest
    }

    /// The end of the class in which the part `fraction` (0 to 1) of all values is reached.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> u64 {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (self.count as f64 * fraction.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (class, count) in self.classes.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return ((1_u64 << class) - 1).min(self.largest);
            }
        }
        self.largest
    }
}

/// What a database did since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Operations that were answered after their transaction was over.
    pub operations: u64,
    /// Transactions that were committed, each with one sync.
    pub commits: u64,
    /// Batches that were given up by SQLite and run again one by one.
    pub replays: u64,
    /// Commits that failed, so that the database was reopened to learn what became of them.
    pub reopened: u64,
    /// Times the reserve file was given up.
    pub reserve_used: u64,
    /// Operations in a committed transaction.
    pub batch_lengths: Histogram,
    /// Microseconds that a commit took: what every operation of the batch waited for.
    pub commit_micros: Histogram,
    /// Microseconds that a batch ran before its commit.
    pub run_micros: Histogram,
    /// Microseconds from the moment a caller came with an operation to its answer: the wait for the batches before, the
    /// batch and its commit. Whatever holds callers up, other callers and housekeeping alike, is in here.
    pub wait_micros: Histogram,
    /// Operations whose caller waited longer than [`Statistics::LONG_WAIT`].
    pub long_waits: u64,
    /// Checkpoints that were begun without being asked for.
    pub checkpoints: u64,
    /// Checkpoints that failed; they are tried again.
    pub checkpoint_failures: u64,
    /// The length of the write-ahead log in bytes after the last commit.
    pub wal_bytes: u64,
}

impl Statistics {
    /// A caller that waits longer than this was held up.
    pub const LONG_WAIT: Duration = Duration::from_millis(50);

    pub(crate) fn record_wait(&mut self, time: Duration) {
        self.wait_micros.record_time(time);
        self.long_waits += u64::from(time > Self::LONG_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_long_when_it_passes_the_limit() {
        let mut statistics = Statistics::default();
        statistics.record_wait(Statistics::LONG_WAIT);
        assert_eq!((statistics.long_waits, statistics.wait_micros.count()), (0, 1));
        statistics.record_wait(Statistics::LONG_WAIT + Duration::from_micros(1));
        assert_eq!((statistics.long_waits, statistics.wait_micros.largest()), (1, 50_001));
    }
}
