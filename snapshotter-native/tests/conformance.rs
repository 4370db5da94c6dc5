//! Snapshots as plain copies pass the suite of their contract.

use std::path::Path;
use std::sync::Arc;

use corten_snapshotter::Snapshotter;
use corten_snapshotter::testsuite::{self, Gap, Subject};
use corten_snapshotter_native::{NativeSnapshotter, Options};
use corten_types::Result;

struct Native;

#[async_trait::async_trait]
impl Subject for Native {
    async fn open(&self, root: &Path) -> Result<Box<dyn Snapshotter>> {
        Ok(Box::new(NativeSnapshotter::open(root, Options::default())?))
    }

    fn known_gaps(&self) -> Vec<Gap> {
        vec![
            Gap {
                case: "a_parent_given_at_commit_lies_below",
                reason: "the parent's files are copied when a snapshot is made",
            },
            Gap { case: "usage_leaves_out_the_parents", reason: "the parent's files are part of the copy" },
        ]
    }
}

fn main() {
    testsuite::run(Arc::new(Native)).exit();
}
