//! How long `ctr run --rm true` takes, beside runc alone and the client alone.

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};
use corten_tests::{Daemon, DaemonOptions, Image};

use crate::{PEERS, sample::Samples};

const ROUNDS: usize = 40;

/// Runs the daemons' turns alternately, so that the machine's moods hit both.
pub(crate) fn measure() -> anyhow::Result<()> {
    let mut daemons = Vec::new();
    for (kind, name) in PEERS {
        let daemon = Daemon::start_with(DaemonOptions { kind, ..DaemonOptions::default() })?;
        let image = Image::busybox(daemon.scratch(), "localhost/busybox:1")?;
        daemon.ctr().ok(&["images", "import", text(&image.archive)?])?;
        daemons.push((daemon, name, Samples::default(), Samples::default()));
    }
    let bundle = tempfile::tempdir()?;
    prepare_bundle(bundle.path())?;
    let mut runc = Samples::default();
    for round in 0..ROUNDS {
        for (daemon, name, runs, clients) in &mut daemons {
            let id = daemon.container(&format!("run-{round}"));
            let ctr = daemon.ctr();
            runs.take(|| ctr.ok(&["run", "--rm", "localhost/busybox:1", &id, "true"]))
                .with_context(|| format!("run a container on {name}"))?;
            clients.take(|| ctr.ok(&["version"]))?;
        }
        runc.take(|| raw_runc(bundle.path(), round))?;
    }
    println!("### Starting a container\n");
    println!("`ctr run --rm true`, {ROUNDS} rounds in turn, milliseconds.\n");
    println!("| | median | p90 | ratio of the medians |\n|---|---|---|---|");
    let containerd = daemons[1].2.median_ms();
    for (_, name, runs, _) in &daemons {
        let ratio = containerd / runs.median_ms();
        println!("| `ctr run` on {name} | {:.0} | {:.0} | {ratio:.2} |", runs.median_ms(), runs.p90_ms());
    }
    println!("| `runc create`, `start`, `delete` | {:.0} | {:.0} | |", runc.median_ms(), runc.p90_ms());
    for (_, name, _, clients) in &daemons {
        println!(
            "| `ctr version` on {name} (the client alone) | {:.0} | {:.0} | |",
            clients.median_ms(),
            clients.p90_ms()
        );
    }
    println!();
    daemons.into_iter().try_for_each(|(daemon, ..)| daemon.finish())
}

fn prepare_bundle(bundle: &Path) -> anyhow::Result<()> {
    let bin = bundle.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("true"))?;
    ensure!(Command::new("runc").arg("spec").current_dir(bundle).status()?.success(), "runc spec failed");
    let script = "import json; s = json.load(open('config.json')); s['process']['args'] = ['/bin/true']; \
                  s['process']['terminal'] = False; json.dump(s, open('config.json', 'w'))";
    let edited = Command::new("python3").args(["-c", script]).current_dir(bundle).status()?;
    ensure!(edited.success(), "config.json could not be edited");
    Ok(())
}

fn raw_runc(bundle: &Path, round: usize) -> anyhow::Result<()> {
    let id = format!("bench-{}-{round}", std::process::id());
    let root = bundle.join("state");
    let runc = |words: &[&str]| -> anyhow::Result<bool> {
        let status = Command::new("runc")
            .arg("--root")
            .arg(&root)
            .args(words)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()?;
        Ok(status.success())
    };
    ensure!(runc(&["create", "--bundle", text(bundle)?, &id])?, "runc create failed");
    ensure!(runc(&["start", &id])?, "runc start failed");
    while !runc(&["delete", &id])? {}
    Ok(())
}

pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a scratch path is text")
}
