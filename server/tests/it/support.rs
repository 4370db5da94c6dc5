//! Servers and clients for tests.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use corten_content_store::LocalStore;
use corten_events::Exchange;
use corten_metadata::Metadata;
use corten_mount_manager::{Activations, MemoryLedger, Workspace};
use corten_server::{
    services::{
        containers::ContainersService,
        content::ContentService,
        diff::DiffService,
        events::{ApiEventFields, EventBridge, EventsService, Forwarder},
        health::HealthService,
        images::ImagesService,
        introspection::{Identity, IntrospectionService, Plugin},
        leases::LeasesService,
        mounts::MountsService,
        namespaces::NamespacesService,
        sandboxes::SandboxesService,
        snapshots::SnapshotsService,
        tasks::TasksService,
        version::VersionService,
    },
    transport::{Grpc, GrpcBuilder, SocketOptions, bind},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::oneshot, task::JoinHandle};
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};

use crate::memory::{EchoDiffer, MemorySnapshotter};

/// How long requests may go on after a server was told to stop.
const DRAIN: Duration = Duration::from_millis(200);

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn own() -> SocketOptions {
    SocketOptions {
        mode: 0o660,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

/// Activations that end with the test.
fn activations(folder: &Path) -> Activations {
    let options = corten_mount_manager::Options::default();
    let workspace = Workspace::open(&folder.join("mounts"), options).unwrap();
    Activations::new(Arc::new(workspace), Arc::new(MemoryLedger::default()))
}

/// A server on a socket in a folder of its own.
pub(crate) struct Server {
    pub(crate) socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(services: GrpcBuilder) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), services)
    }

    /// All services, over stores in a folder of their own.
    pub(crate) async fn whole() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let exchange = exchange();
        let content = LocalStore::open(&folder.path().join("content"), corten_disk::Disk::new()).unwrap();
        let mut options = corten_metadata::Options::new(folder.path().join("meta.db"), Arc::new(content));
        options.events = Arc::new(EventBridge::new(exchange.clone()));
        // Nothing that a test makes is held by an image or a lease.
        options.automatic = false;
        options.snapshotters.insert("memory".into(), Arc::new(MemorySnapshotter::default()));
        let metadata = Metadata::open(options).await.unwrap();
        let state = folder.path().join("state");
        let tasks = corten_tasks::Options::new(folder.path(), state, "grpc", "ttrpc", exchange.clone());
        let tasks = Arc::new(corten_tasks::Tasks::new(tasks));
        let differs = DiffService::new(metadata.clone())
            .with_applier(Arc::new(EchoDiffer("a")))
            .with_applier(Arc::new(EchoDiffer("b")))
            .with_comparer(Arc::new(EchoDiffer("a")))
            .with_comparer(Arc::new(EchoDiffer("b")));
        let services = basic(exchange)
            .add_service(IntrospectionService::new(identity()).into_server())
            .add_service(NamespacesService::new(metadata.clone()).into_server())
            .add_service(ContainersService::new(metadata.clone()).into_server())
            .add_service(LeasesService::new(metadata.clone()).into_server())
            .add_service(ContentService::new(metadata.clone()).into_server())
            .add_service(ImagesService::new(metadata.clone()).into_server())
            .add_service(SnapshotsService::new(metadata.clone()).into_server())
            .add_service(differs.into_server())
            .add_service(MountsService::new(activations(folder.path())).into_server())
            .add_service(SandboxesService::new(metadata.clone()).into_server())
            .add_service(TasksService::new(metadata, tasks).into_server());
        Self::start_in(folder, services)
    }

    fn start_in(folder: tempfile::TempDir, services: GrpcBuilder) -> Self {
        let socket = folder.path().join("grpc.sock");
        let listener = bind(&socket, &own()).unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let serving = tokio::spawn(services.build().serve(listener, shutdown, DRAIN));
        Self { socket, stop: Some(stop), serving, _folder: folder }
    }

    /// One connection.
    pub(crate) async fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap()
    }

    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        tokio::time::timeout(PATIENCE, &mut self.serving).await.expect("the server ends").unwrap();
    }
}

fn identity() -> Identity {
    let plugin = |kind: &str, id: &str| Plugin { kind: kind.into(), id: id.into(), ..Plugin::default() };
    Identity {
        uuid: "0b9a0f4e-6b0a-4f06-8d0c-6a4f0c0f3b52".into(),
        pid: std::process::id(),
        pid_namespace: 4_026_531_836,
        plugins: vec![
            Plugin {
                capabilities: vec!["rebase".into()],
                ..plugin("io.containerd.snapshotter.v1", "memory")
            },
            Plugin {
                init_error: Some((corten_types::ErrorKind::Unknown, "no zfs here: skip plugin".into())),
                ..plugin("io.containerd.snapshotter.v1", "zfs")
            },
            plugin("io.containerd.content.v1", "content"),
        ],
        ..Identity::default()
    }
}

pub(crate) fn exchange() -> Exchange {
    Exchange::new(Arc::new(ApiEventFields))
}

/// The services that need no store.
pub(crate) fn basic(exchange: Exchange) -> GrpcBuilder {
    Grpc::builder()
        .add_service(VersionService::new("v2.1.0-corten", "0123abcd").into_server())
        .add_service(HealthService.into_server())
        .add_service(EventsService::new(Forwarder::new(exchange)).into_server())
}

/// A request in the namespace `test`.
pub(crate) fn request<T>(message: T) -> Request<T> {
    in_namespace("test", message)
}

pub(crate) fn in_namespace<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().unwrap());
    request
}

pub(crate) fn is_installed(program: &str) -> bool {
    Path::new(program).exists()
}
