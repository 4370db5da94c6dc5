//! What an idle shim and an idle daemon take.

use anyhow::Context;
use corten_tests::{Daemon, DaemonOptions, Image};

use crate::{PEERS, first_run::text};

const SHIMS: usize = 10;

/// Memory of a process, in kilobytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident: u64,
    proportional: u64,
    private_dirty: u64,
}

pub(crate) fn measure() -> anyhow::Result<()> {
    println!("### Memory\n");
    println!("One of {SHIMS} idle shims (the middle one), and the daemon above them, in kB.\n");
    println!("| | resident | proportional | private dirty |\n|---|---|---|---|");
    for (kind, name) in PEERS {
        let daemon = Daemon::start_with(DaemonOptions { kind, ..DaemonOptions::default() })?;
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
        row(&format!("shim of {name}"), shims[shims.len() / 2]);
        row(&format!("{name}, just started"), idle);
        row(&format!("{name}, with {SHIMS} containers"), of(daemon.pid())?);
        for number in 0..SHIMS {
            let id = format!("idle-{number}");
            ctr.ok(&["tasks", "delete", "--force", &id])?;
            ctr.ok(&["containers", "delete", &id])?;
        }
        daemon.finish()?;
    }
    println!();
    Ok(())
}

fn row(name: &str, memory: Memory) {
    println!("| {name} | {} | {} | {} |", memory.resident, memory.proportional, memory.private_dirty);
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
