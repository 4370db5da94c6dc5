//! A shim without a daemon: the tests are its client and take its events.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use corten_api::{
    containerd::{
        events::{TaskExit, TaskStart},
        runc::v1::Options,
        runtime::bootstrap::v1::{BootstrapParams, BootstrapResult},
        services::events::ttrpc::v1::ForwardRequest,
        task::v3,
        types::{Envelope, Mount},
    },
    ttrpc::{CallContext, call, method, service},
};
use corten_types::Result;
use prost::Message;
use prost_types::Any;
use serde_json::Value;
use ttrpc::asynchronous::{Client, Server};

use crate::{DEADLINE, SHIM, bundle, leaks, until_async};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test has.
pub(crate) fn unique(what: &str) -> String {
    format!("corten-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A scratch folder with bundles, a place for sockets and a daemon that takes events.
pub(crate) struct Scratch {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) namespace: String,
    pub(crate) events: Arc<Mutex<Vec<Envelope>>>,
    server: Option<Server>,
}

/// A shim and a connection to it.
#[derive(Clone)]
pub(crate) struct Shim {
    pub(crate) client: Client,
    pub(crate) address: String,
    pub(crate) pid: u32,
    namespace: String,
    service: &'static str,
}

impl Scratch {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut scratch = Self { folder, namespace: unique("ns"), events: Arc::default(), server: None };
        bundle::fill_rootfs(&scratch.folder.path().join("image"));
        scratch.serve_events().await;
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn events_socket(&self) -> PathBuf {
        self.path().join("d.sock.ttrpc")
    }

    pub(crate) fn socket_folder(&self) -> PathBuf {
        self.path().join("s")
    }

    /// Takes events from now on.
    pub(crate) async fn serve_events(&mut self) {
        let events = self.events.clone();
        let forward = method(move |_, request: ForwardRequest| {
            events.lock().unwrap().extend(request.envelope);
            async { Ok(()) }
        });
        let mut server = Server::new()
            .bind(&format!("unix://{}", self.events_socket().display()))
            .unwrap()
            .register_service(service("containerd.services.events.ttrpc.v1.Events", [("Forward", forward)]));
        server.start().await.unwrap();
        self.server = Some(server);
    }

    /// Takes no events any more, as a daemon that was killed.
    pub(crate) async fn stop_events(&mut self) {
        let mut server = self.server.take().unwrap();
        server.shutdown().await.unwrap();
        std::fs::remove_file(self.events_socket()).unwrap();
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        let folder = self.path().join("bundles").join(id);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A bundle whose root filesystem the shim will mount.
    pub(crate) fn write_bundle(
        &self,
        id: &str,
        arguments: &[&str],
        terminal: bool,
        change: impl FnOnce(&mut Value),
    ) -> PathBuf {
        let folder = self.bundle(id);
        let cgroup = format!("/{}/{id}", self.namespace);
        bundle::write_config(&folder, &cgroup, arguments, terminal, change);
        folder
    }

    /// The shim's binary with the arguments of a daemon.
    pub(crate) fn command(&self, id: &str, action: &str) -> Command {
        let mut command = Command::new(SHIM);
        command
            .args(["-namespace", &self.namespace, "-id", id])
            .arg("-address")
            .arg(self.path().join("d.sock"))
            .args(["-publish-binary", "/bin/false", action])
            .env("TTRPC_ADDRESS", self.events_socket())
            .current_dir(self.bundle(id));
        command
    }

    pub(crate) fn parameters(&self, id: &str) -> BootstrapParams {
        BootstrapParams {
            instance_id: id.to_owned(),
            namespace: self.namespace.clone(),
            containerd_ttrpc_address: self.events_socket().display().to_string(),
            containerd_grpc_address: self.path().join("d.sock").display().to_string(),
            containerd_binary: "/bin/false".to_owned(),
            socket_dir: Some(self.socket_folder().display().to_string()),
            ..BootstrapParams::default()
        }
    }

    pub(crate) fn start(&self, id: &str) -> BootstrapResult {
        let output = run(self.command(id, "start"), &self.parameters(id).encode_to_vec());
        assert!(output.status.success(), "{output:?}");
        BootstrapResult::decode(output.stdout.as_slice()).unwrap()
    }

    /// Starts a shim for `id` and connects to it.
    pub(crate) async fn shim(&self, id: &str) -> Shim {
        let address = self.start(id).address;
        self.connect(&address, "containerd.task.v3.Task").await
    }

    pub(crate) async fn connect(&self, address: &str, service: &'static str) -> Shim {
        let mut shim = Shim {
            client: Client::connect(address).await.unwrap(),
            address: address.to_owned(),
            pid: 0,
            namespace: self.namespace.clone(),
            service,
        };
        let connected: v3::ConnectResponse =
            shim.call("Connect", &v3::ConnectRequest::default()).await.unwrap();
        shim.pid = connected.shim_pid;
        shim
    }

    /// A request that mounts the image as the root filesystem, and keeps the runtime's state in the scratch folder.
    pub(crate) fn create_request(&self, id: &str) -> v3::CreateTaskRequest {
        let options = Options { root: self.path().join("runc").display().to_string(), ..Options::default() };
        v3::CreateTaskRequest {
            id: id.to_owned(),
            bundle: self.bundle(id).display().to_string(),
            rootfs: vec![Mount {
                r#type: "bind".to_owned(),
                source: self.path().join("image").display().to_string(),
                options: vec!["rbind".to_owned(), "ro".to_owned()],
                ..Mount::default()
            }],
            options: Some(options_any(&options)),
            ..v3::CreateTaskRequest::default()
        }
    }

    /// The topics seen for a container, in order.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(|envelope| envelope.topic.clone()).collect()
    }

    /// The exits seen, in order.
    pub(crate) fn exits(&self) -> Vec<TaskExit> {
        self.decoded("/tasks/exit", |bytes| TaskExit::decode(bytes).unwrap())
    }

    pub(crate) fn starts(&self) -> Vec<TaskStart> {
        self.decoded("/tasks/start", |bytes| TaskStart::decode(bytes).unwrap())
    }

    pub(crate) fn decoded<T>(&self, topic: &str, decode: impl Fn(&[u8]) -> T) -> Vec<T> {
        let events = self.events.lock().unwrap();
        let matching = events.iter().filter(|envelope| envelope.topic == topic);
        matching.map(|envelope| decode(&envelope.event.as_ref().unwrap().value)).collect()
    }

    /// Ends `shim` and asserts that nothing is left of it.
    pub(crate) async fn finish(self, shim: Shim) {
        let (pid, address) = (shim.pid, shim.address.clone());
        let _: () = shim.call("Shutdown", &v3::ShutdownRequest::default()).await.unwrap();
        drop(shim);
        self.assert_nothing_left(pid, &address).await;
    }

    pub(crate) async fn assert_nothing_left(&self, pid: u32, address: &str) {
        let scratch = self.path().display().to_string();
        until_async("the end of the shim", || leaks::ended(pid)).await;
        until_async("the end of every process", || leaks::processes_with(&scratch).is_empty()).await;
        assert!(!Path::new(address.trim_start_matches("unix://")).exists(), "the socket {address} is left");
        assert!(!leaks::is_mounted(&scratch), "a mount is left");
        assert_eq!(leaks::cgroups_named(&self.namespace), Vec::<String>::new());
        let containers = self.path().join("runc").join(&self.namespace);
        assert_eq!(
            std::fs::read_dir(containers).map_or(0, Iterator::count),
            0,
            "the runtime still knows one"
        );
        leaks::remove_namespace_folders(&self.namespace);
    }
}

impl Drop for Scratch {
    /// After a test that failed: its shims, and with them its containers.
    fn drop(&mut self) {
        let socket = self.path().join("d.sock").display().to_string();
        for (pid, _) in leaks::processes_with(&socket) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let root = self.path().join("runc").join(&self.namespace);
        for bundle in std::fs::read_dir(self.path().join("bundles")).into_iter().flatten().flatten() {
            let rootfs = bundle.path().join("rootfs");
            if leaks::is_mounted(&rootfs.display().to_string()) {
                let _ = Command::new("runc")
                    .arg("--root")
                    .arg(&root)
                    .args(["delete", "--force"])
                    .arg(bundle.file_name())
                    .output();
                let _ = Command::new("umount").arg("-l").arg(rootfs).output();
            }
        }
        leaks::remove_namespace_folders(&self.namespace);
    }
}

impl Shim {
    pub(crate) async fn call<Req: Message, Resp: Message + Default>(
        &self,
        method: &str,
        request: &Req,
    ) -> Result<Resp> {
        let context = CallContext::new(&self.namespace).with_timeout(DEADLINE);
        call(&self.client, self.service, method, &context, request).await
    }

    pub(crate) async fn create(&self, request: &v3::CreateTaskRequest) -> Result<u32> {
        self.call::<_, v3::CreateTaskResponse>("Create", request).await.map(|created| created.pid)
    }

    pub(crate) async fn start(&self, id: &str, exec_id: &str) -> Result<u32> {
        let request = v3::StartRequest { id: id.to_owned(), exec_id: exec_id.to_owned() };
        self.call::<_, v3::StartResponse>("Start", &request).await.map(|started| started.pid)
    }

    pub(crate) async fn wait(&self, id: &str, exec_id: &str) -> u32 {
        let request = v3::WaitRequest { id: id.to_owned(), exec_id: exec_id.to_owned() };
        self.call::<_, v3::WaitResponse>("Wait", &request).await.unwrap().exit_status
    }

    pub(crate) async fn state(&self, id: &str, exec_id: &str) -> Result<v3::StateResponse> {
        self.call("State", &v3::StateRequest { id: id.to_owned(), exec_id: exec_id.to_owned() }).await
    }

    pub(crate) async fn kill(&self, id: &str, exec_id: &str, signal: u32, all: bool) -> Result<()> {
        let request = v3::KillRequest { id: id.to_owned(), exec_id: exec_id.to_owned(), signal, all };
        self.call("Kill", &request).await
    }

    pub(crate) async fn delete(&self, id: &str, exec_id: &str) -> Result<v3::DeleteResponse> {
        self.call("Delete", &v3::DeleteRequest { id: id.to_owned(), exec_id: exec_id.to_owned() }).await
    }

    pub(crate) async fn exec(&self, id: &str, exec_id: &str, process: &Value, stdout: &str) -> Result<()> {
        let request = v3::ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdout: stdout.to_owned(),
            spec: Some(Any { type_url: "process".to_owned(), value: process.to_string().into_bytes() }),
            ..v3::ExecProcessRequest::default()
        };
        self.call("Exec", &request).await
    }
}

pub(crate) fn options_any(options: &Options) -> Any {
    Any { type_url: "containerd.runc.v1.Options".to_owned(), value: options.encode_to_vec() }
}

/// Runs `command` with `input`.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}
