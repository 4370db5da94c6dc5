//! Our shim under Debian's containerd, and our daemon with Debian's shim.

use std::path::Path;

use corten_tests::{DaemonOptions, Kind, Programs};

use crate::{crash::shim_of, fixture::Fixture};

fn tour(kind: Kind, program: impl Fn(&Programs) -> std::path::PathBuf) {
    let Some(mut fixture) = Fixture::with(DaemonOptions { kind, ..DaemonOptions::default() }) else { return };
    let run = fixture.run(&["--rm"], "once", &["sh", "-c", "echo out; exit 3"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, "out\n"), "{}", run.stderr);
    fixture.detached(&[], "stays", &["sleep", "1000"]);

    let running = std::fs::read_link(format!("/proc/{}/exe", shim_of(&fixture, "stays"))).unwrap();
    let same = |one: &Path, other: &Path| std::fs::read(one).unwrap() == std::fs::read(other).unwrap();
    assert!(same(&running, &program(&Programs::find().unwrap())), "{} is the wrong shim", running.display());

    let run = fixture.ctr.run(&["tasks", "exec", "--exec-id", "one", "stays", "sh", "-c", "exit 4"]).unwrap();
    assert_eq!(run.code, 4, "{}", run.stderr);
    fixture.ctr.ok(&["tasks", "pause", "stays"]).unwrap();
    assert_eq!(fixture.status("stays").as_deref(), Some("PAUSED"));
    fixture.ctr.ok(&["tasks", "resume", "stays"]).unwrap();
    assert!(fixture.ctr.ok(&["tasks", "metrics", "stays"]).unwrap().contains("memory"));

    fixture.daemon.kill().unwrap();
    fixture.daemon.restart().unwrap();
    assert_eq!(fixture.status("stays").as_deref(), Some("RUNNING"));
    fixture.ctr.ok(&["tasks", "kill", "-s", "SIGKILL", "stays"]).unwrap();
    corten_tests::eventually("the task to stop", || {
        (fixture.status("stays").as_deref() == Some("STOPPED")).then_some(())
    })
    .unwrap();
    let run = fixture.ctr.run(&["tasks", "delete", "stays"]).unwrap();
    assert!(run.stderr.contains("exit code 137"), "{}", run.stderr);
    fixture.ctr.ok(&["containers", "delete", "stays"]).unwrap();
    fixture.finish();
}

#[test]
fn our_daemon_drives_our_shim() {
    tour(Kind::Corten, |programs| programs.shim.clone());
}

#[test]
fn our_daemon_drives_debian_s_shim() {
    tour(Kind::CortenWithStockShim, |programs| programs.stock_shim.clone());
}

#[test]
fn debian_s_containerd_drives_our_shim() {
    tour(Kind::ContainerdWithOurShim, |programs| programs.shim.clone());
}
