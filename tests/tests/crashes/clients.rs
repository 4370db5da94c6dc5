//! Clients with a namespace and a ledger of their own.

mod blobs;
mod images;
mod imports;
mod rows;
mod snapshots;

use std::path::Path;

use async_trait::async_trait;
use corten_types::Result;
use rand::{SeedableRng, rngs::StdRng};

use crate::{ledger::Clock, session::Session};

use {blobs::Blobs, images::Images, imports::Imports, rows::Rows, snapshots::Snapshots};

/// How much a check reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Everything.
    All,
    /// All that is listed, and the trees of what was made since the last check.
    Fresh,
    /// All that is listed, and the trees of some that were made last. The power was cut: what nobody synced may be gone.
    Cut,
}

/// Who works and remembers.
#[async_trait]
pub(crate) trait Client: Send + Sync {
    fn namespace(&self) -> String;

    /// How many changes were acknowledged.
    fn acknowledged(&self) -> u64;

    /// A few calls. The first that fails ends them, and then the daemon was killed.
    async fn step(&mut self, session: &Session) -> Result<()>;

    /// Compares everything that the daemon has with the ledger, after a restart. Panics at the first difference.
    async fn check(&mut self, session: &Session, depth: Depth);

    /// Removes everything.
    async fn clear(&mut self, session: &Session);

    /// Who knows only what was known at this position of the recording, and what was asked for.
    fn at(&self, position: u64) -> Box<dyn Client>;

    /// The positions of the recording after which something was acknowledged.
    fn acknowledged_at(&self) -> Vec<u64>;
}

pub(crate) type Clients = Vec<Box<dyn Client>>;

/// Two that keep the same blobs in two namespaces, and one of each other kind.
pub(crate) fn all(random: &mut StdRng, scratch: &Path, clock: &Clock) -> Clients {
    let mut next = || StdRng::from_rng(random);
    vec![
        Box::new(Blobs::new("blobs-0", next(), clock)),
        Box::new(Blobs::new("blobs-1", next(), clock)),
        Box::new(Images::new(next(), clock)),
        Box::new(Rows::new(next(), clock)),
        Box::new(Imports::new(scratch, next(), clock)),
        Box::new(Snapshots::new("overlayfs", scratch, next(), clock)),
        Box::new(Snapshots::new("native", scratch, next(), clock)),
    ]
}
