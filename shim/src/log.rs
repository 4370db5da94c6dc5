//! The shim's log: lines on the FIFO that the daemon reads (row H11).

use std::{
    ffi::CStr,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{Mode, OFlags};

static DEBUG: AtomicBool = AtomicBool::new(false);

/// The name of the FIFO in the bundle.
const LOG_FIFO: &CStr = c"log";

/// Sends standard error to the log FIFO of the current folder.
///
/// The FIFO is opened for both directions and does not block: while no daemon reads, lines are kept by the kernel until it
/// is full and are lost after that. The shim never waits for a reader and never dies of a missing one.
pub(crate) fn open(debug: bool) {
    DEBUG.store(debug, Ordering::Relaxed);
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if let Ok(fifo) = rustix::fs::open(LOG_FIFO, flags, Mode::empty()) {
        // Without a log the shim works all the same.
        let _ = rustix::stdio::dup2_stderr(&fifo);
    }
}

/// Something went wrong, and the shim goes on.
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    line("warning", message);
}

/// What helps to find a fault; written only if the daemon asked for it.
pub(crate) fn debug(message: fmt::Arguments<'_>) {
    if DEBUG.load(Ordering::Relaxed) {
        line("debug", message);
    }
}

fn line(level: &str, message: fmt::Arguments<'_>) {
    let text =
        format!("time=\"{}\" level={level} msg={:?}\n", Rfc3339(SystemTime::now()), message.to_string());
    // One write a line keeps lines of several shims whole; what does not fit is dropped.
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
}

/// A time as `2026-11-22T05:52:36Z`.
struct Rfc3339(SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        let (year, month, day) = civil(seconds / 86_400);
        let clock = seconds % 86_400;
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The date of a day counted from 1970, by counting 400-year cycles that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (cycle * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}

#[cfg(test)]
#[path = "log/tests.rs"]
mod tests;
