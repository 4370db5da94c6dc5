//! Killing a container whose shim is dead and whose runtime does not do it.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use corten_types::{Error, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::bundle::Bundle;

/// How exactly the time of a process's start is known: the kernel gives the boot in whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// Kills the process in the bundle's `init.pid`, and with it its pid namespace, unless the pid is another's by now.
pub(crate) fn kill(bundle: &Bundle) -> Result<()> {
    let path = bundle.file("init.pid");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let Some(pid) = text.trim().parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
        return Ok(());
    };
    let failed =
        |source: std::io::Error| Error::io(format!("cannot kill process {}", pid.as_raw_nonzero()), source);
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(source) => return Err(failed(source.into())),
    };
    // The handle names one process for good; whether it is the right one is checked after it was taken.
    let written = fs::metadata(&path).and_then(|found| found.modified()).map_err(failed)?;
    let Some(started) = start_of(pid) else { return Ok(()) };
    if started > written + SLACK {
        return Ok(());
    }
    match pidfd_send_signal(handle, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(source) => Err(failed(source.into())),
    }
}

/// When a process started. `None` if it has ended.
fn start_of(pid: Pid) -> Option<SystemTime> {
    /// The place of the start among the fields after the name, which may contain anything.
    const START_FIELD: usize = 19;
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(START_FIELD)?.parse().ok()?;
    let since_boot =
        Duration::from_millis(ticks.checked_mul(1000)? / rustix::param::clock_ticks_per_second());
    let all = fs::read_to_string("/proc/stat").ok()?;
    let boot = all.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot.trim().parse().ok()?) + since_boot)
}

#[cfg(test)]
mod tests;
