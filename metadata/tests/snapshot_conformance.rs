//! The conformance suite of snapshotters, through a namespace of a metadata store.

use std::{path::Path, sync::Arc};

use corten_content_store::LocalStore;
use corten_disk::Disk;
use corten_metadata::{Metadata, Options};
use corten_snapshotter::{
    Snapshotter,
    testsuite::{self, Gap, Subject},
};
use corten_snapshotter_overlay::OverlaySnapshotter;
use corten_types::{Labels, Result};

struct View;

#[async_trait::async_trait]
impl Subject for View {
    async fn open(&self, root: &Path) -> Result<Box<dyn Snapshotter>> {
        let content = LocalStore::open(&root.join("content"), Disk::new())?;
        let overlay = OverlaySnapshotter::open(&root.join("overlay"), Default::default())?;
        let mut options = Options::new(root.join("metadata.db"), Arc::new(content));
        options.snapshotters.insert("overlayfs".to_owned(), Arc::new(overlay));
        let metadata = Metadata::open(options).await?;
        // Without a lease the collection would take what nothing refers to.
        let lease = metadata.view("suite".parse()?, None).leases().create(None, Labels::new()).await?;
        Ok(Box::new(metadata.view("suite".parse()?, Some(lease.id)).snapshots("overlayfs")?))
    }

    fn known_gaps(&self) -> Vec<Gap> {
        vec![Gap {
            case: "a_folder_of_a_lower_layer_is_renamed",
            reason: "overlayfs answers EXDEV unless redirect_dir is on; programs copy then",
        }]
    }
}

fn main() {
    testsuite::run(Arc::new(View)).exit();
}
