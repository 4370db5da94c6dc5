//! Samples and what is said of them.

use std::{
    fs,
    time::{Duration, Instant},
};

/// Durations of one thing, in the order they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Measures `action` once more.
    pub(crate) fn take<T>(&mut self, action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let begin = Instant::now();
        let result = action()?;
        self.0.push(begin.elapsed());
        Ok(result)
    }

    /// The middle one, in milliseconds.
    pub(crate) fn median_ms(&self) -> f64 {
        self.at(0.5)
    }

    /// Nine in ten are below it, in milliseconds.
    pub(crate) fn p90_ms(&self) -> f64 {
        self.at(0.9)
    }

    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        sorted.get(index).map_or(0.0, |duration| duration.as_secs_f64() * 1000.0)
    }
}

/// One line about the machine.
pub(crate) fn machine() -> anyhow::Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let version: Vec<&str> = release.trim().split('.').take(2).collect();
    let cores = std::thread::available_parallelism()?;
    Ok(format!("Linux {}, {cores} cores.\n", version.join(".")))
}
