//! Activations by their names.

use std::sync::Arc;

use corten_filter::Filters;
use corten_types::{Error, ErrorKind, Labels, Mount, Result};

use crate::{
    ledger::{Begun, Entry, Ledger, Scope},
    names::Names,
    plan::Plan,
    record::{ActivateOptions, Activation, Performed},
    workspace::Workspace,
};

/// Activates mounts under names, writes that down, and ends them. Cheap to clone; every clone is the same.
///
/// Must be used inside a tokio runtime. What was begun is finished also if the caller gives up waiting.
#[derive(Clone)]
pub struct Activations {
    inner: Arc<Inner>,
}

struct Inner {
    workspace: Arc<Workspace>,
    ledger: Arc<dyn Ledger>,
    names: Arc<Names>,
}

impl Activations {
    /// Activations in `workspace`, written down in `ledger`.
    pub fn new(workspace: Arc<Workspace>, ledger: Arc<dyn Ledger>) -> Self {
        Self { inner: Arc::new(Inner { workspace, ledger, names: Arc::default() }) }
    }

    /// Whether anything in `mounts` needs to be activated, if the caller does not handle types itself.
    #[must_use]
    pub fn needs(&self, mounts: &[Mount]) -> bool {
        !matches!(self.inner.workspace.plan(mounts.to_vec(), &ActivateOptions::default()), Ok(None))
    }

    /// Makes of `mounts` what the caller cannot, and says what is left to mount (M01).
    ///
    /// # Errors
    /// Nothing stays mounted after any of them.
    /// - `Unimplemented`: nothing needs handling; mount them as they are.
    /// - `AlreadyExists`: there is one of that name (M02); see [`info`](Self::info).
    /// - `NotFound`: the lease of the scope does not exist, or a source.
    /// - `InvalidArgument`, `PermissionDenied`: a template, an option or a path is wrong.
    /// - Others: those of the kernel and of `mkfs`.
    pub async fn activate(
        &self,
        scope: &Scope,
        name: &str,
        mounts: Vec<Mount>,
        options: ActivateOptions,
    ) -> Result<Activation> {
        if name.is_empty() {
            return Err(Error::invalid_argument("the name of an activation must not be empty"));
        }
        let Some(plan) = self.inner.workspace.plan(mounts, &options)? else {
            return Err(Error::unimplemented(format!("mount {name:?}: nothing in it needs a mount manager")));
        };
        let (inner, scope, name) = (Arc::clone(&self.inner), scope.clone(), name.to_owned());
        finish(async move { inner.activate(&scope, &name, plan, options.labels).await }).await
    }

    /// Unmounts all that was mounted under the name (M04).
    ///
    /// # Errors
    /// - `NotFound`: there is no such activation.
    /// - `Unavailable`: somebody uses a mount. The name is free all the same, and whoever looks after the workspace tries
    ///   again.
    pub async fn deactivate(&self, scope: &Scope, name: &str) -> Result<()> {
        let (inner, scope, name) = (Arc::clone(&self.inner), scope.clone(), name.to_owned());
        finish(async move {
            let _turn = inner.names.hold(&scope.namespace, &name).await;
            let number = inner.ledger.end(&scope, &name, None).await?;
            inner.remove(number).await
        })
        .await
    }

    /// The activation called `name` (M04).
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub async fn info(&self, scope: &Scope, name: &str) -> Result<Activation> {
        activation(self.inner.ledger.get(scope, name).await?)
    }

    /// Up to `limit` that match (`name`, `labels.<key>`), in the order of their names, beginning after `after` (M06).
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn list(
        &self,
        scope: &Scope,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Activation>> {
        let entries = self.inner.ledger.list(scope, filters, after, limit).await?;
        entries.into_iter().map(activation).collect()
    }
}

impl Inner {
    async fn activate(
        self: &Arc<Self>,
        scope: &Scope,
        name: &str,
        plan: Plan,
        labels: Labels,
    ) -> Result<Activation> {
        let _turn = self.names.hold(&scope.namespace, name).await;
        let Begun { number, stale } = self.ledger.begin(scope, name, labels.clone()).await?;
        if let Some(stale) = stale
            && let Err(error) = self.remove(stale).await
        {
            tracing::warn!(name, stale, %error, "what is left of a failed activation stays for now");
        }
        let performed = match self.perform(number, plan).await {
            Ok(performed) => performed,
            Err(error) => {
                if let Err(error) = self.ledger.end(scope, name, Some(number)).await {
                    tracing::warn!(name, %error, "a failed activation keeps its name until the next attempt");
                }
                return Err(error);
            }
        };
        if let Err(error) = self.ledger.finish(scope, name, number, performed.to_bytes()).await {
            if let Err(error) = self.remove(number).await {
                tracing::warn!(name, %error, "mounts that nobody knows of stay for now");
            }
            // Usually because it is gone already.
            drop(self.ledger.end(scope, name, Some(number)).await);
            return Err(error);
        }
        let Performed { active, system } = performed;
        Ok(Activation { name: name.to_owned(), active, system, labels })
    }

    async fn perform(self: &Arc<Self>, number: u64, plan: Plan) -> Result<Performed> {
        let inner = Arc::clone(self);
        blocking(move || inner.workspace.perform(number, plan)).await
    }

    /// Somebody else may have been faster.
    async fn remove(self: &Arc<Self>, number: u64) -> Result<()> {
        let inner = Arc::clone(self);
        match blocking(move || inner.workspace.remove(number)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

fn activation(entry: Entry) -> Result<Activation> {
    let Entry { name, labels, data } = entry;
    let Performed { active, system } = Performed::from_bytes(&name, &data)?;
    Ok(Activation { name, active, system, labels })
}

/// Runs something that is finished once it is begun.
async fn finish<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    joined(tokio::spawn(work)).await
}

/// Runs something that blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work)).await
}

async fn joined<T>(work: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    work.await.unwrap_or_else(|error| {
        Err(Error::internal("mounts: an operation panicked or its runtime ended").with_source(error))
    })
}
