//! The conformance suite of content stores, through a namespace of a metadata store.

use std::{path::Path, sync::Arc};

use corten_content_store::{
    ContentStore, LocalStore,
    testsuite::{self, Subject},
};
use corten_disk::Disk;
use corten_metadata::{Metadata, Options};
use corten_types::{Labels, Result};

struct View;

#[async_trait::async_trait]
impl Subject for View {
    async fn open(&self, root: &Path) -> Result<Box<dyn ContentStore>> {
        let content = LocalStore::open(&root.join("content"), Disk::new())?;
        let metadata = Metadata::open(Options::new(root.join("metadata.db"), Arc::new(content))).await?;
        // Without a lease the collection would take what nothing refers to.
        let lease = metadata.view("suite".parse()?, None).leases().create(None, Labels::new()).await?;
        Ok(Box::new(metadata.view("suite".parse()?, Some(lease.id)).content()))
    }
}

fn main() {
    testsuite::run(Arc::new(View)).exit();
}
