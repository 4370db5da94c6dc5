//! Activated mounts: over the wire, through restarts, and below containers. Only Corten: Debian's containerd has none.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

use corten_api::containerd::{
    services::{
        leases::v1::{CreateRequest, DeleteRequest, ListResourcesRequest, leases_client::LeasesClient},
        mounts::v1::{
            ActivateRequest, DeactivateRequest, InfoRequest, ListRequest, mounts_client::MountsClient,
        },
        tasks::v1::{
            CreateTaskRequest, DeleteTaskRequest, KillRequest, StartRequest, WaitRequest,
            tasks_client::TasksClient,
        },
    },
    types::{ActivationInfo, Mount},
};
use corten_tests::{Daemon, eventually, loop_devices, mounts};
use tonic::Code;

use crate::{fixture::Fixture, wire::Client};

impl Client {
    fn mounts(&self) -> MountsClient<tonic::transport::Channel> {
        MountsClient::new(self.connection.channel())
    }

    fn leases(&self) -> LeasesClient<tonic::transport::Channel> {
        LeasesClient::new(self.connection.channel())
    }

    fn tasks(&self) -> TasksClient<tonic::transport::Channel> {
        TasksClient::new(self.connection.channel())
    }

    fn lease(&self, id: &str) {
        let create = CreateRequest { id: id.to_owned(), ..CreateRequest::default() };
        self.runtime.block_on(self.leases().create(self.request(create))).unwrap();
    }

    /// Deletes a lease and waits for the collection.
    fn delete_lease(&self, id: &str) {
        let delete = DeleteRequest { id: id.to_owned(), sync: true };
        self.runtime.block_on(self.leases().delete(self.request(delete))).unwrap();
    }

    fn activate(&self, lease: &str, name: &str, mounts: &[Mount]) -> Result<ActivationInfo, Code> {
        let activate =
            ActivateRequest { name: name.to_owned(), mounts: mounts.to_vec(), ..ActivateRequest::default() };
        let answer = self.runtime.block_on(self.mounts().activate(self.leased(lease, activate)));
        answer.map(|answer| answer.into_inner().info.unwrap()).map_err(|status| status.code())
    }

    fn info(&self, name: &str) -> Result<ActivationInfo, Code> {
        let info = InfoRequest { name: name.to_owned() };
        let answer = self.runtime.block_on(self.mounts().info(self.request(info)));
        answer.map(|answer| answer.into_inner().info.unwrap()).map_err(|status| status.code())
    }

    fn names(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let request = self.request(ListRequest::default());
            let mut stream = self.mounts().list(request).await.unwrap().into_inner();
            let mut names = Vec::new();
            while let Some(message) = stream.message().await.unwrap() {
                names.push(message.info.unwrap().name);
            }
            names
        })
    }
}

fn mount(kind: &str, source: &Path, options: &[&str]) -> Mount {
    Mount {
        r#type: kind.to_owned(),
        source: source.to_str().unwrap().to_owned(),
        target: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

/// A writable image in a loop device below an overlay whose lower layer is `lower`.
fn chain(daemon: &Daemon, name: &str, lower: &str) -> [Mount; 3] {
    let image = daemon.root().join(format!("{name}.img"));
    [
        mount("mkfs/loop", &image, &["X-containerd.mkfs.size=16MiB"]),
        mount("format/ext4", Path::new("{{ mount 0 }}"), &[]),
        mount(
            "format/mkdir/overlay",
            Path::new("overlay"),
            &[
                "X-containerd.mkdir.path={{ mount 1 }}/upper:0755",
                "X-containerd.mkdir.path={{ mount 1 }}/work:0755",
                &format!("lowerdir={lower}"),
                "upperdir={{ mount 1 }}/upper",
                "workdir={{ mount 1 }}/work",
            ],
        ),
    ]
}

fn workspace(daemon: &Daemon) -> std::path::PathBuf {
    daemon.path("state/io.containerd.mount-manager.v1.bolt/t")
}

/// `None` where the test cannot run.
fn fixture() -> Option<Fixture> {
    if std::env::var("CORTEN_TEST_PEER").is_ok_and(|peer| peer == "containerd") {
        println!("skipped: Debian's containerd has no mounts service");
        return None;
    }
    Fixture::new()
}

#[test]
fn activations_live_as_long_as_their_lease_through_crashes_and_lost_mounts() {
    let Some(mut fixture) = fixture() else { return };
    let plugins = fixture.ctr.ok(&["plugins", "ls"]).unwrap();
    for id in ["mount-manager.v1", "mount-handler.v1", "sandbox.store.v1"] {
        assert!(plugins.contains(&format!("io.containerd.{id}")), "{plugins}");
    }
    let client = Client::of(&fixture.daemon);
    let lower = fixture.daemon.path("lower");
    std::fs::create_dir(&lower).unwrap();
    for name in ["first", "second"] {
        client.lease(name);
        let mounts = chain(&fixture.daemon, name, lower.to_str().unwrap());
        assert_eq!(client.activate("absent", name, &mounts), Err(Code::NotFound), "no such lease");
        let info = client.activate(name, name, &mounts).unwrap();
        assert_eq!((info.active.len(), info.system.len()), (2, 1));
        assert_eq!(client.activate(name, name, &mounts), Err(Code::AlreadyExists));
        let resources = ListResourcesRequest { id: name.to_owned() };
        let listed = client.runtime.block_on(client.leases().list_resources(client.request(resources)));
        assert!(listed.unwrap().into_inner().resources.is_empty());
    }
    let plain = [mount("bind", &lower, &["bind"])];
    assert_eq!(client.activate("first", "plain", &plain), Err(Code::Unimplemented));
    let kept = client.info("first").unwrap();
    let lost = client.info("second").unwrap();
    assert!(Path::new(&kept.active[1].mount_point).starts_with(workspace(&fixture.daemon)));

    fixture.daemon.kill().unwrap();
    // As after a reboot: the folder is there, and what was mounted is not.
    for active in lost.active.iter().rev() {
        let point = Path::new(&active.mount_point);
        if point.is_symlink() {
            corten_mount::release_loop_device(&std::fs::read_link(point).unwrap()).unwrap();
        } else {
            corten_mount::unmount(point, corten_mount::UnmountFlags::NONE).unwrap();
        }
    }
    fixture.daemon.restart().unwrap();
    assert_eq!(client.names(), ["first"]);
    assert_eq!(client.info("first"), Ok(kept));
    assert_eq!(client.info("second"), Err(Code::NotFound));
    let again = chain(&fixture.daemon, "second", lower.to_str().unwrap());
    client.activate("second", "second", &again).unwrap();

    fixture.daemon.stop().unwrap();
    fixture.daemon.restart().unwrap();
    assert_eq!(client.names(), ["first", "second"]);
    client.delete_lease("first");
    assert_eq!(client.names(), ["second"]);
    let deactivate = DeactivateRequest { name: "second".to_owned() };
    client.runtime.block_on(client.mounts().deactivate(client.request(deactivate.clone()))).unwrap();
    let twice = client.runtime.block_on(client.mounts().deactivate(client.request(deactivate)));
    assert_eq!(twice.unwrap_err().code(), Code::NotFound);
    assert!(client.names().is_empty());
    client.delete_lease("second");
    assert!(mounts(&workspace(&fixture.daemon)).is_empty());
    assert_eq!(std::fs::read_dir(workspace(&fixture.daemon)).unwrap().count(), 0);
    assert!(loop_devices(fixture.daemon.scratch()).is_empty());
    fixture.finish();
}

/// An erofs image with busybox and a script in it.
fn busybox_image(daemon: &Daemon) -> std::path::PathBuf {
    let tree = daemon.path("tree");
    for folder in ["bin", "proc", "sys", "dev", "etc", "run", "tmp"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "sleep"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    std::fs::write(tree.join("etc/motd"), "from an erofs image\n").unwrap();
    let script = tree.join("bin/script");
    std::fs::write(&script, "#!/bin/sh\ncat /etc/motd; echo written > /etc/new; cat /etc/new\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let image = daemon.root().join("base.erofs");
    let output = Command::new("mkfs.erofs").arg("--quiet").arg(&image).arg(&tree).output();
    let output = output.expect("mkfs.erofs is installed (erofs-utils)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    image
}

fn rootfs(daemon: &Daemon, base: &Path, name: &str) -> Vec<Mount> {
    let image = daemon.root().join(format!("{name}.img"));
    vec![
        mount(
            "mkfs/ext4",
            &image,
            &["X-containerd.mkfs.size=16MiB", "X-containerd.mkfs.fs=ext4", "loop", "rw"],
        ),
        mount("erofs", base, &["ro", "loop"]),
        mount(
            "format/mkdir/overlay",
            Path::new("overlay"),
            &[
                "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
                "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
                "lowerdir={{ mount 1 }}",
                "upperdir={{ mount 0 }}/upper",
                "workdir={{ mount 0 }}/work",
            ],
        ),
    ]
}

impl Client {
    /// A task of a container that has a record, with these mounts as its root filesystem.
    fn create_task(&self, id: &str, rootfs: Vec<Mount>, output: &Path) -> Result<u32, tonic::Status> {
        let create = CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdout: format!("file://{}", output.display()),
            stderr: format!("file://{}", output.display()),
            ..CreateTaskRequest::default()
        };
        let answer = self.runtime.block_on(self.tasks().create(self.request(create)));
        answer.map(|answer| answer.into_inner().pid)
    }

    fn start(&self, id: &str) {
        let start = StartRequest { container_id: id.to_owned(), ..StartRequest::default() };
        self.runtime.block_on(self.tasks().start(self.request(start))).unwrap();
    }

    fn wait(&self, id: &str) -> u32 {
        let wait = WaitRequest { container_id: id.to_owned(), ..WaitRequest::default() };
        self.runtime.block_on(self.tasks().wait(self.request(wait))).unwrap().into_inner().exit_status
    }

    fn delete_task(&self, id: &str) {
        let delete = DeleteTaskRequest { container_id: id.to_owned() };
        self.runtime.block_on(self.tasks().delete(self.request(delete))).unwrap();
    }
}

#[test]
fn a_container_runs_on_an_erofs_image_below_a_writable_one() {
    let Some(mut fixture) = fixture() else { return };
    let client = Client::of(&fixture.daemon);
    let base = busybox_image(&fixture.daemon);
    let id = fixture.daemon.container("layered");
    fixture.ctr.ok(&["containers", "create", &fixture.image.name, &id, "script"]).unwrap();
    let output = fixture.daemon.path("output");
    let create = || client.create_task(&id, rootfs(&fixture.daemon, &base, "rw"), &output);
    create().unwrap();
    let info = client.info(&id).unwrap();
    assert_eq!((info.active.len(), info.system.len()), (2, 1));
    assert_eq!(info.labels["containerd.io/gc.bref.container"], id);
    assert_eq!(create().unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(client.info(&id).as_ref(), Ok(&info), "a task that could not be made takes nothing away");
    client.start(&id);
    assert_eq!(client.wait(&id), 0, "{}", std::fs::read_to_string(&output).unwrap_or_default());
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "from an erofs image\nwritten\n");
    client.delete_task(&id);
    assert_eq!(client.info(&id), Err(Code::NotFound));
    assert!(mounts(fixture.daemon.scratch()).is_empty());
    assert!(loop_devices(fixture.daemon.scratch()).is_empty());
    fixture.ctr.ok(&["containers", "delete", &id]).unwrap();

    // What it wrote is in the image; a daemon that comes back finds the mounts of a container that runs.
    let id = fixture.daemon.container("again");
    fixture.ctr.ok(&["containers", "create", &fixture.image.name, &id, "sleep", "1000"]).unwrap();
    client.create_task(&id, rootfs(&fixture.daemon, &base, "rw"), &output).unwrap();
    client.start(&id);
    assert!(fixture.daemon.bundle(&id).join("rootfs/etc/new").exists());
    fixture.daemon.kill().unwrap();
    fixture.daemon.restart().unwrap();
    assert_eq!(client.info(&id).unwrap().active.len(), 2);
    let kill = KillRequest { container_id: id.clone(), signal: 9, ..KillRequest::default() };
    client.runtime.block_on(client.tasks().kill(client.request(kill))).unwrap();
    assert_eq!(client.wait(&id), 137);
    client.delete_task(&id);
    assert_eq!(client.info(&id), Err(Code::NotFound));
    fixture.ctr.ok(&["containers", "delete", &id]).unwrap();
    fixture.finish();
}

#[test]
fn mounts_of_tasks_that_fail_or_whose_shim_dies_are_ended() {
    let Some(fixture) = fixture() else { return };
    let client = Client::of(&fixture.daemon);
    let base = busybox_image(&fixture.daemon);
    let output = fixture.daemon.path("output");
    let none = fixture.daemon.container("none");
    fixture.ctr.ok(&["containers", "create", &fixture.image.name, &none, "/no/such/program"]).unwrap();
    let refused = client.create_task(&none, rootfs(&fixture.daemon, &base, "none"), &output);
    assert!(refused.unwrap_err().message().contains("/no/such/program"));
    assert_eq!(client.info(&none), Err(Code::NotFound));
    assert!(mounts(fixture.daemon.scratch()).is_empty());
    let bad = vec![mount("format/overlay", Path::new("overlay"), &["lowerdir={{ mount 5 }}"])];
    assert_eq!(client.create_task(&none, bad, &output).unwrap_err().code(), Code::InvalidArgument);

    let dead = fixture.daemon.container("dead");
    fixture.ctr.ok(&["containers", "create", &fixture.image.name, &dead, "sleep", "1000"]).unwrap();
    let pid = client.create_task(&dead, rootfs(&fixture.daemon, &base, "dead"), &output).unwrap();
    client.start(&dead);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    let killed = Command::new("kill").args(["-9", &shim]).status().unwrap();
    assert!(killed.success());
    eventually("the mounts to go", || {
        (client.info(&dead) == Err(Code::NotFound) && mounts(fixture.daemon.scratch()).is_empty())
            .then_some(())
    })
    .unwrap();
    for id in [&none, &dead] {
        fixture.ctr.ok(&["containers", "delete", id]).unwrap();
    }
    fixture.finish();
}
