//! `cargo xtask demo`: the whole path, from an empty machine to a container, told step by step.

use std::time::Instant;

use anyhow::{Context, ensure};
use corten_tests::{Ctr, Daemon, Image, eventually};

use crate::{build, machine, process::step};

const IMAGE: &str = "localhost/busybox:demo";
const CONTAINER: &str = "demo";

/// Installs what is missing, builds, and runs a container on a daemon with scratch folders.
pub(crate) fn run() -> anyhow::Result<()> {
    machine::require_root("the demo")?;
    step("install what is missing", || machine::ensure(machine::DEMO))?;
    let programs = step("build the daemon and the shim", || build::all(build::Profile::Release))?;
    let mut daemon = step("start cortend on scratch folders", || {
        let daemon = Daemon::prepare_with(&programs.daemon, &programs.shim)?;
        println!("    {}", daemon.scratch().display());
        Ok(daemon)
    })?;
    daemon.restart()?;
    let ctr = daemon.ctr();
    let told = tell(&daemon, &ctr);
    let ended = step("stop cortend and look for anything left behind", || daemon.finish());
    told.and(ended)
}

fn tell(daemon: &Daemon, ctr: &Ctr) -> anyhow::Result<()> {
    let image = step("make an OCI image of busybox", || Image::busybox(daemon.scratch(), IMAGE))?;
    let archive = image.archive.to_str().context("a scratch path is text")?;
    shown(ctr, &["version"])?;
    shown(ctr, &["images", "import", archive])?;
    shown(ctr, &["images", "ls"])?;
    let once = daemon.container("once");
    shown(ctr, &["run", "--rm", IMAGE, &once, "echo", "hello from a container"])?;
    let id = daemon.container(CONTAINER);
    shown(ctr, &["run", "-d", IMAGE, &id, "sleep", "1000"])?;
    shown(ctr, &["tasks", "ls"])?;
    shown(ctr, &["tasks", "exec", "--exec-id", "shell", &id, "sh", "-c", "cat /etc/motd; ps"])?;
    shown(ctr, &["tasks", "kill", "-s", "SIGKILL", &id])?;
    eventually("the container to stop", || {
        ctr.ok(&["tasks", "ls"]).is_ok_and(|list| list.contains("STOPPED")).then_some(())
    })?;
    shown(ctr, &["tasks", "ls"])?;
    shown(ctr, &["tasks", "delete", &id])?;
    shown(ctr, &["containers", "delete", &id])?;
    shown(ctr, &["images", "rm", "--sync", IMAGE])
}

/// Runs `ctr` as a user would, and shows what it was asked, what it said and how long it took.
fn shown(ctr: &Ctr, words: &[&str]) -> anyhow::Result<()> {
    println!("$ ctr {}", words.join(" "));
    let begin = Instant::now();
    let run = ctr.run(words)?;
    for line in run.stdout.lines().chain(run.stderr.lines()) {
        println!("    {line}");
    }
    println!("    ({:.0} ms)", begin.elapsed().as_secs_f64() * 1000.0);
    ensure!(run.success(), "ctr {} exited with {}", words.join(" "), run.code);
    Ok(())
}
