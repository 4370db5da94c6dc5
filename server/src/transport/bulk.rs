//! Notices requests that may have left much freed memory behind.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A request that moved so many bytes is a large one.
pub const BULK_BYTES: u64 = 1 << 20;

/// A request that took so long is a large one, too: an unpack moves few bytes over the wire.
pub const BULK_TIME: Duration = Duration::from_secs(1);

/// Is called after each large request.
pub type AfterBulk = Arc<dyn Fn() + Send + Sync>;

/// One request, shared by its two bodies: when both are gone, it has ended.
pub(super) struct Bulk {
    moved_bytes: AtomicU64,
    began_at: Instant,
    after: AfterBulk,
}

impl Bulk {
    pub(super) fn begin(after: &AfterBulk) -> Arc<Self> {
        Arc::new(Self { moved_bytes: AtomicU64::new(0), began_at: Instant::now(), after: Arc::clone(after) })
    }

    pub(super) fn moved(&self, bytes: usize) {
        self.moved_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn is_large(&self) -> bool {
        self.moved_bytes.load(Ordering::Relaxed) >= BULK_BYTES || self.began_at.elapsed() >= BULK_TIME
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        if self.is_large() {
            (self.after)();
        }
    }
}

impl fmt::Debug for Bulk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bulk").field("moved_bytes", &self.moved_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
