//! The composition root: opens the stores, wires them to the services, binds the sockets; serves later.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use corten_disk::{Disk, RootLock};
use corten_events::Exchange;
use corten_metadata::Metadata;
use corten_server::{
    services::{
        containers::ContainersService,
        content::ContentService,
        diff::DiffService,
        events::{ApiEventFields, EventBridge, EventsService, Forwarder},
        fsck::FsckService,
        health::HealthService,
        images::ImagesService,
        introspection::{Identity, IntrospectionService},
        leases::LeasesService,
        mounts::MountsService,
        namespaces::NamespacesService,
        sandboxes::SandboxesService,
        snapshots::SnapshotsService,
        tasks::TasksService,
        version::VersionService,
    },
    transport::{Grpc, MAX_MESSAGE_BYTES, SocketOptions, bind},
    ttrpc::serve_events,
};
use corten_tasks::Tasks;
use tokio::{
    net::UnixListener,
    sync::{Notify, watch},
};

use crate::{
    cli::{REVISION, VERSION},
    config::{Settings, SocketSettings},
    identity, mounts,
    plugin_details::PluginDetails,
    plugins::{Plugins, local, plugin},
    stores,
};

/// How long requests may take to end after the sockets are closed.
const DRAIN: Duration = Duration::from_secs(2);

/// Where the folders of the state are, by containerd's names (row DM61).
const STATE_MODE: u32 = 0o711;

/// A daemon that is wired and bound, and serves nothing yet.
pub struct App {
    grpc: Grpc,
    grpc_listener: UnixListener,
    grpc_address: SocketSettings,
    ttrpc_listener: UnixListener,
    ttrpc_address: SocketSettings,
    metadata: Metadata,
    tasks: Arc<Tasks>,
    forwarder: Forwarder,
    exchange: Exchange,
    memory_freed: Arc<Notify>,
    inspectors: Vec<corten_snapshotter::Inspector>,
    _lock: RootLock,
}

impl App {
    /// Opens everything that `settings` name. The root is locked; what a crash left is set right.
    ///
    /// # Errors
    /// If the root or a socket is in use, a folder cannot be made, or a store that everything needs does not open.
    #[expect(
        clippy::too_many_lines,
        reason = "the composition root: every setting is decided here, in one place"
    )]
    pub async fn build(settings: Settings) -> anyhow::Result<Self> {
        let Settings {
            root,
            state,
            temp,
            grpc,
            max_receive_bytes,
            max_send_bytes,
            ttrpc,
            debug,
            oom_score,
            disabled_plugins,
            required_plugins,
            shared_content,
            collection,
            overlay,
            native_root,
            sync_fs,
            stream_processors,
            shim_env,
            shim_socket_dir,
            opt_path,
            timeouts,
        } = settings;
        let disk = Disk::new();
        prepare_folder(&disk, &root, 0o700)?;
        let lock = RootLock::acquire(&root, "cortend").context("the root belongs to another daemon")?;
        prepare_folder(&disk, &state, STATE_MODE)?;
        set_oom_score(oom_score)?;

        if (max_receive_bytes, max_send_bytes) != (MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES) {
            tracing::warn!(
                "messages have {MAX_MESSAGE_BYTES} bytes at most, whatever the configuration says"
            );
        }
        let mut plugins = Plugins::new(&disabled_plugins);
        let exchange = Exchange::new(Arc::new(ApiEventFields));
        let temporary = root.join("tmpmounts");
        prepare_folder(&disk, &temporary, 0o700)?;
        corten_mount::cleanup_temporary_mounts(&temporary).context("unmount what a crash left mounted")?;

        let content = stores::content(&root, &disk, &mut plugins)?;
        let trees = stores::snapshotters(&root, &overlay, native_root.as_deref(), &disk, &mut plugins);
        let manifests = trees.manifests();
        let workspace = mounts::workspace(&root, &state, &disk, &mut plugins)?;
        let inspectors = trees.inspectors();
        let snapshotters = inspectors.values().cloned().collect();
        let publisher = Arc::new(EventBridge::new(exchange.clone()));
        let memory_freed = Arc::new(Notify::new());
        let metadata = stores::metadata(
            &root,
            &disk,
            Arc::new(content.clone()),
            trees,
            Arc::new(mounts::Collected(Arc::clone(&workspace))),
            shared_content,
            &collection,
            publisher,
            memory_freed.clone(),
            &mut plugins,
        )
        .await?;
        stores::remove_unreadable_ingests(&content, &metadata);
        let activations = mounts::activations(workspace, &metadata);
        let checked = corten_fsck::Store::serving(
            metadata.clone(),
            content.clone(),
            inspectors,
            Some(stores::bundles(&state)),
        );
        let differ = stores::differ(&temporary, manifests, stream_processors, &mut plugins);

        let mut options = corten_tasks::Options::new(
            &root,
            &state,
            grpc.address.display().to_string(),
            ttrpc.address.display().to_string(),
            exchange.clone(),
        );
        options.debug = matches!(debug.level.as_str(), "debug" | "trace");
        VERSION.clone_into(&mut options.version);
        options.socket_dir = shim_socket_dir;
        options.env = stores::shim_environment(&opt_path, temp.as_deref(), &shim_env)?;
        options.search_dirs.push(opt_path.join("bin"));
        options.mounts = Some(activations.clone());
        options.timeouts.load = timeouts.shim_load;
        options.timeouts.cleanup = timeouts.shim_cleanup;
        options.timeouts.shutdown = timeouts.shim_shutdown;
        options.timeouts.state = timeouts.task_state;
        let tasks = Arc::new(Tasks::new(options));
        plugins.add(local(
            "io.containerd.runtime.v2",
            "task",
            &[("log-uri-schemes", LOG_SCHEMES.to_owned())],
            vec![],
        ));
        plugins.add(plugin("io.containerd.internal.v1", "opt", &[]));

        let identity = Identity {
            uuid: identity::uuid(&root, &disk).context("keep the daemon's identifier")?,
            pid: std::process::id(),
            pid_namespace: identity::pid_namespace(),
            deprecations: Vec::new(),
            plugins: plugins.finish(&required_plugins)?,
            plugin_info: Some(Arc::new(PluginDetails { tasks: tasks.clone(), metadata: metadata.clone() })),
        };
        let mut diff = DiffService::new(metadata.clone()).with_sync_fs(sync_fs);
        if let Some(differ) = differ {
            diff = diff.with_applier(differ.clone()).with_comparer(differ);
        }
        let observer = tasks.clone();
        let forwarder =
            Forwarder::new(exchange.clone()).with_observer(move |envelope| observer.observe(envelope));
        let told = memory_freed.clone();
        let served = Grpc::builder()
            .after_bulk(move || told.notify_one())
            .add_service(VersionService::new(VERSION, REVISION).into_server())
            .add_service(HealthService.into_server())
            .add_service(IntrospectionService::new(identity).into_server())
            .add_service(NamespacesService::new(metadata.clone()).into_server())
            .add_service(ContainersService::new(metadata.clone()).into_server())
            .add_service(LeasesService::new(metadata.clone()).into_server())
            .add_service(ContentService::new(metadata.clone()).into_server())
            .add_service(ImagesService::new(metadata.clone()).into_server())
            .add_service(SnapshotsService::new(metadata.clone()).into_server())
            .add_service(diff.into_server())
            .add_service(MountsService::new(activations).into_server())
            .add_service(SandboxesService::new(metadata.clone()).into_server())
            .add_service(EventsService::new(forwarder.clone()).into_server())
            .add_service(TasksService::new(metadata.clone(), tasks.clone()).into_server())
            .add_service(FsckService::new(checked).into_server())
            .build();

        Ok(Self {
            grpc: served,
            grpc_listener: listen(&grpc)?,
            grpc_address: grpc,
            ttrpc_listener: listen(&ttrpc)?,
            ttrpc_address: ttrpc,
            metadata,
            tasks,
            forwarder,
            exchange,
            memory_freed,
            inspectors: snapshotters,
            _lock: lock,
        })
    }

    /// The sockets that are bound.
    pub fn addresses(&self) -> impl Iterator<Item = &Path> {
        [self.grpc_address.address.as_path(), self.ttrpc_address.address.as_path()].into_iter()
    }

    /// Serves until `shutdown` ends; containers run on after that.
    ///
    /// # Errors
    /// If the shims cannot be looked for, or the database does not close well.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        // Every task is known before the first request: one that is still being reconnected is waited for.
        let recovery = self.tasks.recover().await.context("look for the shims of running containers")?;
        tracing::info!(?recovery, "shims are being reconnected");
        let (stop, stopping) = watch::channel(());
        let ended = || {
            let mut stopping = stopping.clone();
            async move { while stopping.changed().await.is_ok() {} }
        };
        let giving_back = tokio::spawn(crate::memory::give_back_when_told(
            self.memory_freed,
            self.metadata.clone(),
            self.inspectors,
        ));
        let grpc = tokio::spawn(self.grpc.serve(self.grpc_listener, ended(), DRAIN));
        let ttrpc = tokio::spawn(serve_events(self.ttrpc_listener, self.forwarder, ended(), DRAIN));
        notify(&[sd_notify::NotifyState::Ready]);
        shutdown.await;

        notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping; containers keep running");
        drop(stop);
        self.exchange.close();
        for ended in [grpc.await.map(Ok), ttrpc.await] {
            ended.context("a server panicked")?.context("serve")?;
        }
        giving_back.abort();
        self.tasks.shutdown().await;
        self.metadata.close().await.context("close the metadata")
    }
}

/// How clients may name where a container's output goes (row P26).
const LOG_SCHEMES: &str = "fifo,binary,binary-v2,file";

fn prepare_folder(disk: &Disk, folder: &Path, mode: u32) -> anyhow::Result<()> {
    disk.create_dir_all(folder, mode).with_context(|| format!("make the folder {}", folder.display()))
}

fn listen(socket: &SocketSettings) -> anyhow::Result<UnixListener> {
    let address = &socket.address;
    let folder = address.parent().unwrap_or(Path::new("/"));
    prepare_folder(&Disk::new(), folder, STATE_MODE)?;
    let options = SocketOptions { uid: socket.uid, gid: socket.gid, ..SocketOptions::default() };
    Ok(bind(address, &options)?)
}

/// Tells the kernel how dear this process is when memory runs out (row DM18).
fn set_oom_score(score: i32) -> anyhow::Result<()> {
    if score == 0 {
        return Ok(());
    }
    let mut file = std::fs::File::options().write(true).open("/proc/self/oom_score_adj")?;
    std::io::Write::write_all(&mut file, score.to_string().as_bytes())
        .with_context(|| format!("set oom_score to {score}"))
}

/// Tells the service manager, where there is one.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
