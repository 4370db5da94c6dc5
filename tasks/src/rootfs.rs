//! Mounts that a shim cannot make are made before it is asked (row H82).

use std::path::Path;

use corten_mount_manager::{ActivateOptions, Activations, Scope};
use corten_types::{ErrorKind, Labels, Mount, Result};

use crate::{inner::Inner, model::CreateOptions, registry::Key};

/// Keeps the mounts as long as the container's record.
const KEPT_BY_CONTAINER: &str = "containerd.io/gc.bref.container";

/// What a shim says that it mounts itself: types, with commas between them (H21).
const ALLOWED: &str = "containerd.io/runtime-allow-mounts";

/// A shim that is known to say nothing about mounts is not asked.
const SAYS_NOTHING: &str = "io.containerd.runc.v2";

/// What became of the mounts of a root filesystem.
pub(crate) struct Rootfs {
    /// What the shim is to mount.
    pub(crate) mounts: Vec<Mount>,
    /// Whether mounts were made now, so that they are to be undone if the task cannot be made.
    pub(crate) activated: bool,
}

impl Inner {
    /// Makes what the shim cannot mount. An activation of that name is used again: the container is still the same.
    pub(crate) async fn activate(&self, key: &Key, shim: &Path, options: &CreateOptions) -> Result<Rootfs> {
        let untouched = || Rootfs { mounts: options.rootfs.clone(), activated: false };
        let Some(activations) = &self.settings.mounts else { return Ok(untouched()) };
        if !activations.needs(&options.rootfs) {
            return Ok(untouched());
        }
        let scope = Scope::of(key.namespace.clone());
        let activate = ActivateOptions {
            labels: Labels::from([(KEPT_BY_CONTAINER.to_owned(), key.id.clone())]),
            temporary: false,
            allowed_types: self.mounted_by(shim, options).await,
        };
        match activations.activate(&scope, &key.id, options.rootfs.clone(), activate).await {
            Ok(activation) => Ok(Rootfs { mounts: activation.system, activated: true }),
            Err(error) if error.kind() == ErrorKind::Unimplemented => Ok(untouched()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let activation = activations.info(&scope, &key.id).await?;
                Ok(Rootfs { mounts: activation.system, activated: false })
            }
            Err(error) => Err(error),
        }
    }

    /// Ends what [`activate`](Self::activate) made. What cannot be unmounted now is left to the collection.
    pub(crate) async fn deactivate(&self, key: &Key) {
        let Some(activations) = &self.settings.mounts else { return };
        if let Err(error) = ended(activations, key).await {
            tracing::error!(?key, error = error.chain(), "the mounts of a task stay for now");
        }
    }

    async fn mounted_by(&self, shim: &Path, options: &CreateOptions) -> Vec<String> {
        if options.runtime == SAYS_NOTHING {
            return Vec::new();
        }
        match self.shim_info(shim, None).await {
            Ok(info) => {
                let said = info.annotations.get(ALLOWED).map_or("", String::as_str);
                said.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect()
            }
            Err(error) => {
                let shim = shim.display();
                tracing::warn!(%shim, error = error.chain(), "a shim does not say what it mounts itself");
                Vec::new()
            }
        }
    }
}

async fn ended(activations: &Activations, key: &Key) -> Result<()> {
    let scope = Scope::of(key.namespace.clone());
    // Most tasks have none: a look is cheaper than a change.
    let result = match activations.info(&scope, &key.id).await {
        Ok(_) => activations.deactivate(&scope, &key.id).await,
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
