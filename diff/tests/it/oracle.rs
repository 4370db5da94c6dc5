//! The same trees, compared by containerd: one archive, byte for byte.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use corten_diff::{CompareOptions, Comparer, DifferOptions, WalkingDiffer};
use corten_types::Mount;

use crate::{apply::bind, root_or_skip, store::Store};

const OCI: &str = "application/vnd.oci.image.layer.v1.tar";

/// A containerd of our own, below a folder of our own.
struct Containerd {
    folder: tempfile::TempDir,
    child: Child,
}

impl Containerd {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = folder.path().display();
        let plugins =
            ["grpc.v1.cri", "snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper"];
        let disabled: Vec<String> = plugins.iter().map(|name| format!("\"io.containerd.{name}\"")).collect();
        let configuration = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\ndisabled_plugins = [{}]\n\
             [grpc]\n  address = \"{at}/socket\"\n",
            disabled.join(",")
        );
        write(&folder.path().join("config.toml"), configuration.as_bytes());
        let child = Command::new("containerd")
            .args(["-c", folder.path().join("config.toml").to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let containerd = Self { folder, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !containerd.ctr(&["version"]).status.success() {
            assert!(Instant::now() < deadline, "containerd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(containerd)
    }

    fn ctr(&self, arguments: &[&str]) -> std::process::Output {
        let socket = self.folder.path().join("socket");
        Command::new("ctr").arg("-a").arg(socket).args(arguments).output().unwrap()
    }

    fn snapshots(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.ctr(&[&["snapshots"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The folders of a snapshot that was just prepared.
    fn folder_of(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("root/io.containerd.snapshotter.v1.overlayfs/snapshots/{number}/fs"))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(path: &Path, contents: &[u8]) {
    use std::io::Write as _;
    fs::File::create(path).unwrap().write_all(contents).unwrap();
}

fn script(folder: &Path, commands: &str) {
    let status = Command::new("sh").args(["-ec", commands]).current_dir(folder).status().unwrap();
    assert!(status.success());
}

fn compare(lower: &[Mount], upper: &[Mount], temporary: &Path) -> Vec<u8> {
    let store = Store::default();
    let differ = WalkingDiffer::new(temporary, DifferOptions::default());
    let options = CompareOptions { media_type: OCI.into(), ..CompareOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let descriptor = runtime.block_on(differ.compare(&store, lower, upper, options)).unwrap();
    store.bytes(&descriptor.digest).to_vec()
}

#[test]
fn containerd_computes_the_same_bytes() {
    root_or_skip!();
    let Some(containerd) = Containerd::start() else {
        eprintln!("skipped: needs containerd");
        return;
    };
    containerd.snapshots(&["prepare", "base"]);
    let base = containerd.folder_of(1);
    script(
        &base,
        "mkdir -p usr/bin etc/deep/er; echo a > usr/bin/su; chmod 4755 usr/bin/su; ln usr/bin/su usr/bin/sudo
         ln -s usr/bin bin; echo y > etc/deep/er/f; echo z > etc/z; mkfifo pipe; mknod null c 1 3
         touch $(printf 'l%.0s' $(seq 150)) café; chown 3000000:12 usr; touch -d @-100 old; touch -d @99999999999 late
         mkdir -p $(printf 'd%.0s' $(seq 90))/$(printf 'e%.0s' $(seq 90)); ln -s $(printf 't%.0s' $(seq 150)) far",
    );
    containerd.snapshots(&["commit", "base0", "base"]);
    containerd.snapshots(&["prepare", "work", "base0"]);
    let work = containerd.folder_of(2);
    // As an overlay leaves it: what is changed was copied up with the folders on its way.
    script(
        &work,
        "mkdir -p etc/deep/er usr/bin newdir/a; chmod 700 etc; echo new > etc/deep/er/g; chown 3000000:12 usr
         echo changed > usr/bin/su; touch newdir/a/b; ln newdir/a/b newdir/c; ln -s /else bin2",
    );
    let temporary = containerd.folder.path().join("mounts");
    let theirs = containerd.snapshots(&["diff", "--media-type", OCI, "base0"]);
    assert!(compare(&[], &bind(&base), &temporary) == theirs);
    let upper = Mount {
        kind: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: vec![
            "index=off".into(),
            format!("workdir={}", work.with_file_name("work").display()),
            format!("upperdir={}", work.display()),
            format!("lowerdir={}", base.display()),
        ],
    };
    let theirs = containerd.snapshots(&["diff", "--media-type", OCI, "base0", "work"]);
    assert!(theirs.len() > 5000);
    assert!(compare(&bind(&base), &[upper], &temporary) == theirs);
}
