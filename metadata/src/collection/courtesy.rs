//! Leaving the disk and the processors to those who have more than housekeeping to do.

use std::time::{Duration, Instant};

use crate::Metadata;

/// The longest rest, so that a collection ends whatever others do.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// Rests after each piece of a collection for as long as the piece took, while others write. Alone it goes on at once.
pub(super) struct Courtesy<'a> {
    metadata: &'a Metadata,
    operations: u64,
    since: Instant,
}

impl<'a> Courtesy<'a> {
    /// Begins a piece.
    pub(super) fn begin(metadata: &'a Metadata) -> Self {
        Self { metadata, operations: metadata.inner.database.operations(), since: Instant::now() }
    }

    /// Ends a piece, which made `own` operations on the writer, and begins the next.
    pub(super) async fn rest(&mut self, own: u64) {
        let operations = self.metadata.inner.database.operations();
        if operations.saturating_sub(self.operations) > own {
            tokio::time::sleep(self.since.elapsed().min(LONGEST_REST)).await;
        }
        *self = Self::begin(self.metadata);
    }
}
