//! Samples and what is said of them.

use std::time::{Duration, Instant};

/// Values of one thing, in the order they were taken; times are in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Measures `action` once more.
    pub(crate) fn take<T>(&mut self, action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let begin = Instant::now();
        let result = action()?;
        self.push(begin.elapsed());
        Ok(result)
    }

    /// Adds a time.
    pub(crate) fn push(&mut self, time: Duration) {
        self.add(time.as_secs_f64() * 1000.0);
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds all of another's.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The sum by the number.
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// Nine in ten are below it.
    pub(crate) fn p90(&self) -> f64 {
        self.at(0.9)
    }

    /// All but one in a hundred are below it.
    pub(crate) fn p99(&self) -> f64 {
        self.at(0.99)
    }

    /// The largest.
    pub(crate) fn largest(&self) -> f64 {
        self.at(1.0)
    }

    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        sorted.get(index).copied().unwrap_or(0.0)
    }
}
