//! One namespace, seen by a caller that may hold a lease.

use std::fmt;

use corten_types::{Error, Namespace, Result};

use crate::{Containers, Content, Images, Leases, Metadata, Resources, Sandboxes, Snapshots};

/// One namespace, seen by a caller that may hold a lease (X03, X06). Cheap to make and to clone.
#[derive(Clone)]
pub struct View {
    pub(crate) metadata: Metadata,
    pub(crate) namespace: Namespace,
    pub(crate) lease: Option<String>,
}

impl View {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its containers.
    #[must_use]
    pub fn containers(&self) -> Containers {
        Containers(self.clone())
    }

    /// Its images.
    #[must_use]
    pub fn images(&self) -> Images {
        Images(self.clone())
    }

    /// Its leases.
    #[must_use]
    pub fn leases(&self) -> Leases {
        Leases(self.clone())
    }

    /// Its sandboxes.
    #[must_use]
    pub fn sandboxes(&self) -> Sandboxes {
        Sandboxes(self.clone())
    }

    /// Its blobs: a [`ContentStore`](corten_content_store::ContentStore).
    #[must_use]
    pub fn content(&self) -> Content {
        Content(self.clone())
    }

    /// Its snapshots in the snapshotter called `name`: a [`Snapshotter`](corten_snapshotter::Snapshotter).
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such snapshotter (S01).
    pub fn snapshots(&self, name: &str) -> Result<Snapshots> {
        Snapshots::new(self.clone(), name)
    }

    /// Its things of the kind `kind`, for the part that looks after them.
    ///
    /// # Errors
    /// `InvalidArgument` if nothing looks after that kind.
    pub fn resources(&self, kind: &str) -> Result<Resources> {
        Resources::new(self.clone(), kind)
    }

    /// Runs something that must be finished once it is begun, even if the caller does not wait for it.
    pub(crate) async fn finish<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        tokio::spawn(work).await.map_err(broken_off)
    }

    /// The same for something that blocks in most of its steps: it has a thread for all of them, because waking another for each is
    /// dearer than the steps.
    pub(crate) async fn finish_on_one_thread<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let runtime = tokio::runtime::Handle::current();
        let run = move || corten_disk::waiting_allowed(|| runtime.block_on(work));
        tokio::task::spawn_blocking(run).await.map_err(broken_off)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("View")
            .field("namespace", &self.namespace)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

fn broken_off(error: tokio::task::JoinError) -> Error {
    Error::internal("metadata: an operation panicked or its runtime ended").with_source(error)
}
