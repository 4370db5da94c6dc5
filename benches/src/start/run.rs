//! How long `ctr run --rm true` takes, beside runc alone and the client alone.

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};
use corten_tests::{Daemon, DaemonOptions, Image};

use crate::{lab::Lab, peers::PEERS, sample::Samples};

const ROUNDS: usize = 40;

/// Runs the daemons' turns alternately, so that the machine's moods hit both.
pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let rounds = lab.options.repetitions(ROUNDS);
    let mut daemons = Vec::new();
    for peer in PEERS {
        let options = DaemonOptions { kind: peer.kind(), log_level: "info", ..DaemonOptions::default() };
        let daemon = Daemon::start_with(options)?;
        let image = Image::busybox(daemon.scratch(), "localhost/busybox:1")?;
        daemon.ctr().ok(&["images", "import", text(&image.archive)?])?;
        daemons.push((daemon, peer, Samples::default(), Samples::default()));
    }
    let bundle = tempfile::tempdir()?;
    prepare_bundle(bundle.path())?;
    let mut runc = Samples::default();
    for round in 0..rounds {
        for (daemon, peer, runs, clients) in &mut daemons {
            let id = daemon.container(&format!("run-{round}"));
            let ctr = daemon.ctr();
            runs.take(|| ctr.ok(&["run", "--rm", "localhost/busybox:1", &id, "true"]))
                .with_context(|| format!("run a container on {peer}"))?;
            clients.take(|| ctr.ok(&["version"]))?;
        }
        runc.take(|| raw_runc(bundle.path(), round))?;
    }
    let row = |what: &str, samples: &Samples, ratio: String| {
        vec![what.to_owned(), format!("{:.0}", samples.median()), format!("{:.0}", samples.p90()), ratio]
    };
    let containerd = daemons[1].2.median();
    let mut rows = Vec::new();
    for (_, peer, runs, _) in &daemons {
        rows.push(row(&format!("`ctr run` on {peer}"), runs, format!("{:.2}", containerd / runs.median())));
    }
    rows.push(row("`runc create`, `start`, `delete`", &runc, String::new()));
    for (_, peer, _, clients) in &daemons {
        rows.push(row(&format!("`ctr version` on {peer} (the client alone)"), clients, String::new()));
    }
    lab.report.heading("Starting a container");
    lab.report.say(&format!("`ctr run --rm true`, {rounds} rounds in turn, milliseconds."));
    lab.report.table(&["", "median", "p90", "ratio of the medians"], &rows);
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

pub(super) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a scratch path is text")
}
