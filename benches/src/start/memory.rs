//! What an idle shim and an idle daemon take.

use anyhow::Context;
use corten_tests::{Daemon, DaemonOptions, Image};

use super::run::text;
use crate::{lab::Lab, peers::PEERS};

const SHIMS: usize = 10;

/// Memory of a process, in kilobytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident: u64,
    proportional: u64,
    private_dirty: u64,
}

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for peer in PEERS {
        let options = DaemonOptions { kind: peer.kind(), log_level: "info", ..DaemonOptions::default() };
        let daemon = Daemon::start_with(options)?;
        let idle = of(daemon.pid())?;
        let image = Image::busybox(daemon.scratch(), "localhost/busybox:1")?;
        let ctr = daemon.ctr();
        ctr.ok(&["images", "import", text(&image.archive)?])?;
        for number in 0..SHIMS {
            let id = daemon.container(&format!("idle-{number}"));
            ctr.ok(&["run", "-d", "localhost/busybox:1", &id, "sleep", "1000"])?;
        }
        let mut shims = Vec::new();
        let tasks = ctr.ok(&["tasks", "ls"])?;
        for line in tasks.lines().skip(1) {
            let pid = line.split_whitespace().nth(1).context("a task has a pid")?;
            shims.push(of(parent(pid)?)?);
        }
        shims.sort_by_key(|memory| memory.proportional);
        rows.push(row(&format!("shim of {peer}"), shims[shims.len() / 2]));
        rows.push(row(&format!("{peer}, just started"), idle));
        rows.push(row(&format!("{peer}, with {SHIMS} containers"), of(daemon.pid())?));
        for number in 0..SHIMS {
            let id = format!("idle-{number}");
            ctr.ok(&["tasks", "delete", "--force", &id])?;
            ctr.ok(&["containers", "delete", &id])?;
        }
        daemon.finish()?;
    }
    lab.report.heading("Memory");
    lab.report.say(&format!("One of {SHIMS} idle shims (the middle one), and the daemon above them, in kB."));
    lab.report.table(&["", "resident", "proportional", "private dirty"], &rows);
    Ok(())
}

fn row(name: &str, memory: Memory) -> Vec<String> {
    let figures = [memory.resident, memory.proportional, memory.private_dirty];
    [name.to_owned()].into_iter().chain(figures.map(|figure| figure.to_string())).collect()
}

fn of(pid: u32) -> anyhow::Result<Memory> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        rollup
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("smaps_rollup of {pid} has no {name}"))
    };
    Ok(Memory {
        resident: field("Rss:")?,
        proportional: field("Pss:")?,
        private_dirty: field("Private_Dirty:")?,
    })
}

fn parent(pid: &str) -> anyhow::Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("PPid:")).context("a process has a parent")?;
    Ok(line.trim().parse()?)
}
