//! `cortend fsck`: damage is found with and without a daemon, repaired, pulled again; a lost database is rebuilt.

use std::{
    fs,
    path::{Path, PathBuf},
};

use corten_tests::{DaemonOptions, Kind, Registry, Run};

use crate::fixture::Fixture;

const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";
const SNAPSHOTS: &str = "io.containerd.snapshotter.v1.overlayfs/snapshots";

/// A daemon of ours, whatever the other tests run against, that collects only when asked.
fn fixture() -> Option<Fixture> {
    let section = "io.containerd.gc.v1.scheduler";
    let configuration = format!("[plugins.{section:?}]\nschedule_delay = \"1h\"\nstartup_delay = \"1h\"\n");
    Fixture::with(DaemonOptions { kind: Kind::Corten, configuration, ..DaemonOptions::default() })
}

/// `cortend fsck` with the daemon's own options.
fn fsck(fixture: &Fixture, options: &[&str]) -> Run {
    let mut command = fixture.daemon.command();
    let output = command.args(["fsck", "--format", "json"]).args(options).output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The lines of damage.
fn damage(run: &Run) -> Vec<String> {
    let lines = run.stdout.lines();
    lines
        .filter(|line| line.contains("\"step\":\"finding\"") && line.contains("\"severity\":\"damage\""))
        .map(str::to_owned)
        .collect()
}

/// The folder of the snapshot that has this file.
fn snapshot_with(root: &Path, file: &str) -> PathBuf {
    let mut entries = fs::read_dir(root.join(SNAPSHOTS)).unwrap();
    entries
        .find_map(|entry| Some(entry.ok()?.path()).filter(|path| path.join("fs").join(file).exists()))
        .unwrap()
}

#[test]
fn damage_is_found_with_and_without_a_daemon_and_an_ordinary_pull_repairs_it() {
    let Some(mut fixture) = fixture() else { return };
    let registry = Registry::start().unwrap();
    let name = registry.image("busybox:1");
    let ctr = fixture.ctr.clone();
    ctr.ok(&["images", "push", "--plain-http", &name, &fixture.image.name]).unwrap();
    ctr.ok(&["images", "rm", "--sync", &fixture.image.name]).unwrap();
    ctr.ok(&["images", "pull", "--plain-http", &name]).unwrap();
    let root = fixture.daemon.root();
    let clean = fsck(&fixture, &[]);
    assert_eq!(clean.code, 0, "{}{}", clean.stdout, clean.stderr);

    let layer = fixture.image.layers[0].clone();
    let blob = root.join(BLOBS).join(layer.trim_start_matches("sha256:"));
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let tree = snapshot_with(&root, "etc/motd");
    fs::rename(tree.join("fs"), fixture.daemon.path("lost")).unwrap();

    let served = fsck(&fixture, &[]);
    assert!(served.stderr.contains("is in use by"), "{}", served.stderr);
    fixture.daemon.stop().unwrap();
    let offline = fsck(&fixture, &[]);
    for run in [&served, &offline] {
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        let found = damage(run);
        let has = |kind: &str, thing: &str| {
            found.iter().any(|line| line.contains(&format!("\"kind\":\"{kind}\"")) && line.contains(thing))
        };
        assert!(found.len() == 2 && has("blob-damaged", &layer), "{found:?}");
        assert!(has("tree-missing", "overlayfs/"), "{found:?}");
        assert!(found.iter().all(|line| line.contains(&name)), "both say which image: {found:?}");
    }

    fixture.daemon.restart().unwrap();
    let repaired = fsck(&fixture, &["--repair"]);
    assert_eq!(repaired.code, 0, "{}{}", repaired.stdout, repaired.stderr);
    assert!(!blob.exists() && !tree.exists(), "{}", repaired.stdout);
    let incomplete = fsck(&fixture, &[]);
    assert_eq!(incomplete.code, 4, "it has to be pulled again: {}", incomplete.stdout);
    ctr.ok(&["images", "pull", "--plain-http", &name]).unwrap();
    let id = fixture.daemon.container("again");
    let run = ctr.run(&["run", "--rm", &name, &id, "cat", "/etc/motd"]).unwrap();
    assert_eq!((run.code, run.stdout.as_str()), (0, "made of busybox\n"), "{}", run.stderr);
    let clean = fsck(&fixture, &[]);
    assert_eq!(clean.code, 0, "{}{}", clean.stdout, clean.stderr);
    fixture.finish();
}

#[test]
fn a_lost_database_means_quarantine_and_its_rows_come_back() {
    let Some(mut fixture) = fixture() else { return };
    let ctr = fixture.ctr.clone();
    fixture.detached(&[], "stays", &["sleep", "1000"]);
    ctr.ok(&["leases", "create", "--id", "kept"]).unwrap();
    let before = (ctr.ok(&["images", "ls"]).unwrap(), ctr.ok(&["snapshots", "ls"]).unwrap());
    fixture.daemon.stop().unwrap();
    let database = fixture.daemon.root().join("io.containerd.metadata.v1.bolt/meta.db");
    let mut bytes = fs::read(&database).unwrap();
    bytes[..4096].fill(0x5a);
    fs::write(&database, bytes).unwrap();

    fixture.daemon.restart().unwrap();
    let quarantine = fsck(&fixture, &["--only", "rows"]);
    assert_eq!(quarantine.code, 1, "{}{}", quarantine.stdout, quarantine.stderr);
    assert!(quarantine.stdout.contains("\"kind\":\"quarantine\""), "{}", quarantine.stdout);
    let process = fixture.daemon.bundle("stays").join("init.pid");
    let pid = fs::read_to_string(process).unwrap();
    assert!(Path::new("/proc").join(pid.trim()).exists(), "the container runs on");

    let rebuilt = fsck(&fixture, &["--rebuild", "--accept"]);
    assert_eq!(rebuilt.code, 0, "{}{}", rebuilt.stdout, rebuilt.stderr);
    assert!(rebuilt.stdout.contains("\"step\":\"released\""), "{}", rebuilt.stdout);
    let after = (ctr.ok(&["images", "ls"]).unwrap(), ctr.ok(&["snapshots", "ls"]).unwrap());
    assert_eq!(after, before);
    assert!(ctr.ok(&["leases", "ls"]).unwrap().contains("kept"));
    assert_eq!(fixture.status("stays").as_deref(), Some("RUNNING"));
    fixture.daemon.stop().unwrap();
    fixture.daemon.restart().unwrap();
    let clean = fsck(&fixture, &[]);
    assert_eq!(clean.code, 0, "{}{}", clean.stdout, clean.stderr);
    fixture.remove("stays");
    fixture.finish();
}
