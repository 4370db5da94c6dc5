//! Activated mounts: where they are made, and that the metadata knows of them.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use corten_disk::Disk;
use corten_filter::Filters;
use corten_metadata::{Collectible, Found, Metadata, ResourceInfo, Resources};
use corten_mount_manager::{Activations, Begun, Entry, Ledger, Options, ReadLedger, Scope, Workspace};
use corten_types::{Error, Labels, Result};

use crate::plugins::{Plugins, local, plugin};

/// The kind of things that activations are, in the metadata and in the labels of clients (G13).
pub(crate) const KIND: &str = "mount";

const MANAGER: &str = "io.containerd.mount-manager.v1";
const HANDLER: &str = "io.containerd.mount-handler.v1";

/// Opens the folder of the mounts (row P24). Folders and images may be made below the root too (R10).
pub(crate) fn workspace(
    root: &Path,
    state: &Path,
    disk: &Disk,
    plugins: &mut Plugins,
) -> anyhow::Result<Arc<Workspace>> {
    let folder = state.join(format!("{MANAGER}.bolt")).join("t");
    let options = Options { roots: vec![root.to_owned()], disk: disk.clone(), ..Options::default() };
    let workspace = Workspace::open(&folder, options).context("open the folder of activated mounts")?;
    plugins.add(local(HANDLER, "erofs", &[], Vec::new()));
    plugins.add(plugin(MANAGER, "bolt", &["io.containerd.metadata.v1", HANDLER]));
    Ok(Arc::new(workspace))
}

/// Activations that are rows of `metadata`, which was opened with [`Collected`] of the same workspace.
pub(crate) fn activations(workspace: Arc<Workspace>, metadata: &Metadata) -> Activations {
    Activations::new(workspace, Arc::new(MetadataLedger(metadata.clone())))
}

/// Ends the mounts that nothing refers to any more.
pub(crate) struct Collected(pub(crate) Arc<Workspace>);

impl Collected {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Workspace) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let workspace = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&workspace)).await.unwrap_or_else(|error| {
            Err(Error::internal("work on activated mounts panicked").with_source(error))
        })
    }
}

#[async_trait]
impl Collectible for Collected {
    async fn found(&self) -> Result<Vec<Found>> {
        let found = self.blocking(Workspace::found).await?;
        Ok(found.into_iter().map(|found| Found { number: found.number, whole: found.whole }).collect())
    }

    async fn remove(&self, number: u64) -> Result<()> {
        self.blocking(move |workspace| workspace.remove(number)).await
    }
}

/// Keeps activations where the leases and labels are that decide about them.
struct MetadataLedger(Metadata);

impl MetadataLedger {
    fn of(&self, scope: &Scope) -> Result<Resources> {
        self.0.view(scope.namespace.clone(), scope.lease.clone()).resources(KIND)
    }
}

fn entry(info: ResourceInfo) -> Entry {
    Entry { name: info.name, labels: info.labels, data: info.data.unwrap_or_default() }
}

#[async_trait]
impl ReadLedger for MetadataLedger {
    async fn get(&self, scope: &Scope, name: &str) -> Result<Entry> {
        self.of(scope)?.get(name).await.map(entry)
    }

    async fn list(
        &self,
        scope: &Scope,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let listed = self.of(scope)?.list(filters, after, limit).await?;
        Ok(listed.into_iter().map(entry).collect())
    }
}

#[async_trait]
impl Ledger for MetadataLedger {
    async fn begin(&self, scope: &Scope, name: &str, labels: Labels) -> Result<Begun> {
        let begun = self.of(scope)?.begin(name, labels).await?;
        Ok(Begun { number: begun.number, stale: begun.stale })
    }

    async fn finish(&self, scope: &Scope, name: &str, number: u64, data: Bytes) -> Result<()> {
        self.of(scope)?.finish(name, number, data).await
    }

    async fn end(&self, scope: &Scope, name: &str, number: Option<u64>) -> Result<u64> {
        match number {
            None => self.of(scope)?.remove(name).await,
            Some(number) => self.of(scope)?.abandon(name, number).await.map(|()| number),
        }
    }
}
