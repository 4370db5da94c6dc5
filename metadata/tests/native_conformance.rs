//! The conformance suite of snapshotters, through a namespace of a metadata store, over plain copies.

use std::{path::Path, sync::Arc};

use corten_content_store::LocalStore;
use corten_disk::Disk;
use corten_metadata::{Metadata, Options};
use corten_snapshotter::{
    Snapshotter,
    testsuite::{self, Gap, Subject},
};
use corten_snapshotter_native::NativeSnapshotter;
use corten_types::{Labels, Result};

struct View;

#[async_trait::async_trait]
impl Subject for View {
    async fn open(&self, root: &Path) -> Result<Box<dyn Snapshotter>> {
        let content = LocalStore::open(&root.join("content"), Disk::new())?;
        let native = NativeSnapshotter::open(&root.join("native"), Default::default())?;
        let mut options = Options::new(root.join("metadata.db"), Arc::new(content));
        options.snapshotters.insert("native".to_owned(), Arc::new(native));
        let metadata = Metadata::open(options).await?;
        // Without a lease the collection would take what nothing refers to.
        let lease = metadata.view("suite".parse()?, None).leases().create(None, Labels::new()).await?;
        Ok(Box::new(metadata.view("suite".parse()?, Some(lease.id)).snapshots("native")?))
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
    testsuite::run(Arc::new(View)).exit();
}
