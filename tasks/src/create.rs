//! Making a task: bundle, shim, container; whole or not at all.

use std::{path::Path, sync::Arc};

use corten_api::containerd::{runc::v1::Options as RuncOptions, task::v3 as wire};
use corten_types::{Any, Error, ErrorKind, Result, validate_identifier};
use prost::Message;

use crate::{
    blocking,
    bootstrap::{Bootstrap, from_task_api},
    bundle::Bundle,
    connection::Connection,
    convert::{any_to_wire, mount_to_wire, type_name},
    inner::Inner,
    model::{CreateOptions, Created},
    registry::Key,
    task::Task,
};

const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
/// Shims of this version and above can be joined (H15).
const SANDBOX_VERSION: i32 = 3;
/// How often a task is tried to be made where its shim goes away in the middle.
const MAX_ATTEMPTS: u32 = 2;

impl CreateOptions {
    /// The runtime to use (K03).
    fn chosen_runtime(&self) -> &str {
        if self.runtime_path.is_empty() { &self.runtime } else { &self.runtime_path }
    }

    /// The options to use: the task's if they say anything, else the container's (K02).
    fn chosen_options(&self) -> Option<&Any> {
        let own = self.task_options.as_ref().filter(|options| !options.value.is_empty());
        let said = |options: &&Any| !options.type_url.is_empty() || !options.value.is_empty();
        own.or(self.runtime_options.as_ref().filter(said))
    }

    /// The folder to restore from, after checking the type of the task's options (K01).
    fn chosen_checkpoint(&self) -> Result<String> {
        let Some(options) = &self.task_options else { return Ok(self.checkpoint.clone()) };
        if options.type_url.is_empty() && options.value.is_empty() {
            return Ok(self.checkpoint.clone());
        }
        let refused = || Error::unknown(format!("invalid task create option for {}", self.runtime));
        if type_name(&options.type_url) != RUNC_OPTIONS {
            return Err(refused());
        }
        let decoded =
            RuncOptions::decode(options.value.clone()).map_err(|source| refused().with_source(source))?;
        let given = Some(decoded.criu_image_path).filter(|path| !path.is_empty());
        Ok(given.unwrap_or_else(|| self.checkpoint.clone()))
    }
}

impl Inner {
    pub(crate) async fn create(self: &Arc<Self>, options: CreateOptions) -> Result<Created> {
        validate_identifier("task id", &options.id)?;
        let checkpoint = options.chosen_checkpoint()?;
        let key = Key::new(&options.namespace, options.id.clone());
        let reservation = self.registry.reserve(&key).await?;
        let shim = self.lookup.find(options.chosen_runtime()).map_err(|error| {
            Error::new(error.kind(), "failed to start shim: failed to resolve runtime path")
                .with_source(error)
        })?;
        self.check_features(&shim, &options.spec, options.chosen_options()).await?;
        let rootfs = self.activate(&key, &shim, &options).await?;
        let options = CreateOptions { rootfs: rootfs.mounts, ..options };
        let made = self.make_patiently(&key, &shim, &options, &checkpoint).await;
        if made.is_err() && rootfs.activated {
            self.deactivate(&key).await;
        }
        let task = made?;
        let pid = task.pid();
        reservation.settle(Arc::clone(&task));
        self.supervise(&task);
        Ok(Created { pid })
    }

    /// Makes bundle, shim and container, again if the shim of a group ended just then.
    async fn make_patiently(
        &self,
        key: &Key,
        shim: &Path,
        options: &CreateOptions,
        checkpoint: &str,
    ) -> Result<Arc<Task>> {
        let mut attempt = 1;
        loop {
            match self.make(key, shim, options, checkpoint).await {
                Ok(task) => return Ok(task),
                // The shim of a group was found, and ended with its last container meanwhile. The next try starts a new one.
                Err(error) if error.kind() == ErrorKind::Unavailable && attempt < MAX_ATTEMPTS => {
                    tracing::info!(?key, error = error.chain(), "the shim went away; starting another");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes bundle, shim and container, or leaves nothing.
    async fn make(
        &self,
        key: &Key,
        shim: &Path,
        options: &CreateOptions,
        checkpoint: &str,
    ) -> Result<Arc<Task>> {
        let bundle = self.layout.bundle(&key.namespace, &key.id);
        let (made, spec) = (bundle.clone(), options.spec.clone());
        blocking(move || made.create(&spec)).await?;
        let connection = match self.find_shim(key, &bundle, shim, options).await {
            Ok(connection) => connection,
            Err(error) => {
                self.undo(key, &bundle, shim, None).await;
                return Err(Error::new(error.kind(), "failed to start shim").with_source(error));
            }
        };
        match create_in_shim(key, &bundle, &connection, options, checkpoint).await {
            Ok(pid) => Ok(Arc::new(Task::new(key.clone(), bundle, shim.to_path_buf(), connection, pid))),
            Err(error) => {
                self.undo(key, &bundle, shim, Some(connection)).await;
                Err(Error::new(error.kind(), "failed to create shim task").with_source(error))
            }
        }
    }

    /// The sandbox's shim if it can be joined, else the one that `start` starts or finds.
    async fn find_shim(
        &self,
        key: &Key,
        bundle: &Bundle,
        shim: &Path,
        options: &CreateOptions,
    ) -> Result<Arc<Connection>> {
        match self.sandbox_bootstrap(key, options)? {
            Some(bootstrap) => self.join_shim(bundle, shim, &options.sandbox_id, &bootstrap).await,
            None => self.start_shim(key, bundle, shim, options.chosen_options()).await,
        }
    }

    /// Where the sandbox's shim listens. `None` if there is no sandbox, if its shim is too old to be joined, or if it was
    /// made before sandboxes were recorded: then the shim's program finds its group by itself (H14, H15).
    fn sandbox_bootstrap(&self, key: &Key, options: &CreateOptions) -> Result<Option<Bootstrap>> {
        if options.sandbox_id.is_empty() {
            return Ok(None);
        }
        let bootstrap = match &options.task_api {
            Some((endpoint, version)) if !endpoint.is_empty() => Some(from_task_api(endpoint, *version)?),
            _ => match self.registry.live(&Key::new(&key.namespace, options.sandbox_id.clone())) {
                Some(sandbox) => Bootstrap::load(&sandbox.bundle)?,
                None => None,
            },
        };
        Ok(bootstrap.filter(|bootstrap| bootstrap.version >= SANDBOX_VERSION))
    }
}

async fn create_in_shim(
    key: &Key,
    bundle: &Bundle,
    connection: &Arc<Connection>,
    options: &CreateOptions,
    checkpoint: &str,
) -> Result<u32> {
    let request = wire::CreateTaskRequest {
        id: key.id.clone(),
        bundle: bundle.path().display().to_string(),
        rootfs: options.rootfs.iter().map(mount_to_wire).collect(),
        terminal: options.terminal,
        stdin: options.stdin.clone(),
        stdout: options.stdout.clone(),
        stderr: options.stderr.clone(),
        checkpoint: checkpoint.to_owned(),
        parent_checkpoint: String::new(),
        options: options.chosen_options().map(any_to_wire),
    };
    let created: wire::CreateTaskResponse =
        connection.call_any_version(&key.namespace, "Create", request).await?;
    match created.pid {
        0 => Ok(connection.connect(key).await?.task_pid),
        pid => Ok(pid),
    }
}
