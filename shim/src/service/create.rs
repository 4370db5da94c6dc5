//! Create: from a bundle to a container that waits for its start (row H32).

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use corten_api::containerd::{
    events::{TaskCreate, TaskIo},
    runc::v1::Options,
    task::v3::{CreateTaskRequest, CreateTaskResponse},
};
use corten_mount::{UnmountFlags, mount_all, unmount_recursive};
use corten_runtime_runc::{CheckpointOptions, CreateOptions, Runtime, read_pid_file};
use corten_types::{Error, Mount, Result};

use super::{Shim, runtime_root};
use crate::{
    bootstrap,
    cgroup::Cgroup,
    container::{Container, Parts, Restore},
    log,
    oom::OomWatch,
    options,
    process::Process,
    stdio::{self, Owner, StreamNames},
};

/// The file with the process id of init (row H48).
pub(super) const INIT_PID_FILE: &str = "init.pid";

/// How long the input of init is left alone after Create, unless it is started before.
const STDIN_DELAY: Duration = Duration::from_millis(200);

impl Shim {
    pub(super) async fn create(self: Arc<Self>, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        if request.id.is_empty() || request.bundle.is_empty() {
            return Err(Error::invalid_argument("a container needs an id and a bundle"));
        }
        self.reserve(&request.id)?;
        let created = self.create_reserved(&request).await;
        if created.is_err() {
            self.remove(&request.id);
        }
        created
    }

    async fn create_reserved(self: &Arc<Self>, request: &CreateTaskRequest) -> Result<CreateTaskResponse> {
        let bundle = PathBuf::from(&request.bundle);
        let options = container_options(request)?;
        options::write(&bundle, &options)?;
        let mounted = self.mount_rootfs(request, &bundle).await?;
        let container = match self.create_mounted(request, &bundle, &options, mounted.clone()).await {
            Ok(container) => container,
            Err(error) => {
                if let Some(rootfs) = mounted {
                    unmount_rootfs(rootfs).await;
                }
                return Err(error);
            }
        };
        Ok(CreateTaskResponse { pid: container.init.pid() })
    }

    /// Mounts the root filesystem, if the request has mounts for it, and says where.
    async fn mount_rootfs(&self, request: &CreateTaskRequest, bundle: &Path) -> Result<Option<PathBuf>> {
        if request.rootfs.is_empty() {
            return Ok(None);
        }
        let rootfs = bundle.join("rootfs");
        match DirBuilder::new().mode(0o711).create(&rootfs) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io(format!("make {}", rootfs.display()), error));
            }
            _ => {}
        }
        let mounts: Vec<Mount> = request
            .rootfs
            .iter()
            .map(|mount| Mount {
                kind: mount.r#type.clone(),
                source: mount.source.clone(),
                target: mount.target.clone(),
                options: mount.options.clone(),
            })
            .collect();
        // Some kinds are mounted by helper processes, which that code waits for itself.
        let pause = mounts.iter().any(needs_helper).then(|| self.reaper.pause());
        let target = rootfs.clone();
        let result = blocking(move || mount_all(&mounts, &target)).await;
        drop(pause);
        result.map_err(|error| {
            Error::new(error.kind(), "failed to mount rootfs component").with_source(error)
        })?;
        Ok(Some(rootfs))
    }

    async fn create_mounted(
        self: &Arc<Self>,
        request: &CreateTaskRequest,
        bundle: &Path,
        options: &Options,
        rootfs: Option<PathBuf>,
    ) -> Result<Arc<Container>> {
        let names = StreamNames {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let container = Arc::new(Container::new(Parts {
            id: request.id.clone(),
            bundle: bundle.to_owned(),
            runtime: self.runtime(bundle, options),
            rootfs,
            io_uid: options.io_uid,
            io_gid: options.io_gid,
            restore: restore(request, bundle, options),
            init: Arc::new(Process::new(&request.id, names)),
        }));
        if container.restore.is_some() {
            // The runtime makes it on Start; until then there is no process.
            self.publish_create(request, 0);
            self.fill(container.clone());
            return Ok(container);
        }
        let expected = self.reaper.expect_start();
        self.run_create(&container, options).await?;
        let exit = expected.claim(container.init.pid());
        drop(expected);
        self.publish_create(request, container.init.pid());
        self.watch_cgroup(&container);
        self.fill(container.clone());
        open_stdin_soon(&container.init);
        self.watch_init(container.clone(), exit);
        Ok(container)
    }

    /// Runs `create`. The container is gone again if anything after that fails.
    async fn run_create(&self, container: &Container, options: &Options) -> Result<()> {
        let pid_file = container.bundle.join(INIT_PID_FILE);
        let mut streams = stdio::prepare(&container.init.names, self.owner(container)).await?;
        let io = streams.take_io();
        let create = CreateOptions {
            pid_file: Some(pid_file.clone()),
            console_socket: streams.console.as_ref().map(|socket| socket.path().to_owned()),
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
        };
        container.runtime.create(&container.id, &container.bundle, &create, io).await.map_err(Error::from)?;
        let attached = async {
            container.init.attach(streams.attach().await?);
            read_pid_file(&pid_file).map_err(|error| {
                Error::unknown("failed to retrieve OCI runtime container pid").with_source(Error::from(error))
            })
        };
        match attached.await {
            Ok(pid) => {
                container.init.set_pid(pid);
                Ok(())
            }
            Err(error) => {
                if let Err(second) = container.runtime.delete(&container.id, true).await {
                    log::warn(format_args!("remove the container {}: {second}", container.id));
                }
                Err(error)
            }
        }
    }

    /// For whom the streams of a container's processes are opened.
    pub(super) fn owner<'a>(&'a self, container: &'a Container) -> Owner<'a> {
        Owner {
            namespace: &self.namespace,
            container: &container.id,
            uid: container.io_uid,
            gid: container.io_gid,
            reaper: &self.reaper,
        }
    }

    fn runtime(&self, bundle: &Path, options: &Options) -> Runtime {
        let binary = if options.binary_name.is_empty() { "runc" } else { &options.binary_name };
        Runtime::new(binary, runtime_root(&options.root, &self.namespace))
            .with_log(bundle.join("log.json"))
            .with_systemd_cgroup(options.systemd_cgroup)
            .with_processes(self.reaper.clone())
    }

    fn publish_create(&self, request: &CreateTaskRequest, pid: u32) {
        self.publisher.publish(&TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIo {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
            }),
            checkpoint: request.checkpoint.clone(),
            pid,
        });
    }

    /// Looks for want of memory from the moment on that init exists (row H41). What fails here costs figures, not the container.
    pub(super) fn watch_cgroup(&self, container: &Container) {
        let cgroup = match Cgroup::of_process(container.init.pid()) {
            Ok(Some(cgroup)) => Arc::new(cgroup),
            Ok(None) => return,
            Err(error) => {
                log::warn(format_args!("find the cgroup of {}: {}", container.id, error.chain()));
                return;
            }
        };
        if let Err(error) = cgroup.enable_controllers() {
            log::warn(format_args!("enable the controllers of {}: {error}", container.id));
        }
        let oom = OomWatch::start(&cgroup, &container.id, self.publisher.clone()).unwrap_or_else(|error| {
            log::warn(format_args!("{}", error.chain()));
            None
        });
        container.set_cgroup(cgroup, oom);
    }
}

/// The options of a request; the defaults if it has none.
fn container_options(request: &CreateTaskRequest) -> Result<Options> {
    let Some(any) = request.options.as_ref().filter(|any| !any.type_url.is_empty()) else {
        return Ok(Options::default());
    };
    bootstrap::runc_options(any)?
        .ok_or_else(|| Error::invalid_argument(format!("{:?} are no options of this shim", any.type_url)))
}

fn restore(request: &CreateTaskRequest, bundle: &Path, options: &Options) -> Option<Restore> {
    let present = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
    let image_path = present(&request.checkpoint)?;
    let checkpoint = CheckpointOptions {
        image_path: Some(image_path),
        work_path: present(&options.criu_work_path).or_else(|| Some(bundle.join("work"))),
        parent_path: present(&request.parent_checkpoint),
        ..CheckpointOptions::default()
    };
    Some(Restore { checkpoint, no_pivot: options.no_pivot_root })
}

/// Reads the input of init also if its start is long in coming: a client may wait for a reader before it starts it.
fn open_stdin_soon(init: &Arc<Process>) {
    if init.names.stdin.is_empty() {
        return;
    }
    let init = Arc::downgrade(init);
    tokio::spawn(async move {
        tokio::time::sleep(STDIN_DELAY).await;
        if let Some(Err(error)) = init.upgrade().map(|init| init.open_stdin()) {
            log::warn(format_args!("{}", error.chain()));
        }
    });
}

fn needs_helper(mount: &Mount) -> bool {
    let mapped = |option: &String| option.starts_with("uidmap=") || option.starts_with("gidmap=");
    mount.kind.starts_with("fuse") || mount.options.iter().any(mapped)
}

/// Unmounts a container's root filesystem; a busy one is taken out of sight.
pub(super) async fn unmount_rootfs(rootfs: PathBuf) {
    let result = blocking(move || {
        unmount_recursive(&rootfs, UnmountFlags::NONE)
            .or_else(|_| unmount_recursive(&rootfs, UnmountFlags::DETACH))
            .map_err(|error| {
                Error::new(error.kind(), format!("unmount {}", rootfs.display())).with_source(error)
            })
    });
    if let Err(error) = result.await {
        log::warn(format_args!("{}", error.chain()));
    }
}

/// Runs what can only block on a thread of its own.
async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal("a helper thread failed").with_source(error)))
}
