//! The shim as a process: alone over ttrpc, and under a stock containerd.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;
mod bootstrap;
mod bundle;
mod grouping;
mod image;
mod leaks;
mod lifecycle;
mod limits;
mod recovery;
mod refusals;
mod scale;
mod stock;
mod streams;
mod under_containerd;

use std::time::{Duration, Instant};

/// Leaves the test unless it runs as root and the programs are there; fails instead where `CORTEN_TEST_ROOT=1` demands a run.
#[macro_export]
macro_rules! root_or_skip {
    ($($program:literal),*) => {
        let demanded = std::env::var_os("CORTEN_TEST_ROOT").is_some();
        if !rustix::process::geteuid().is_root() {
            assert!(!demanded, "CORTEN_TEST_ROOT is set, but this is not root");
            println!("skipped: needs root");
            return;
        }
        for program in ["runc", "/bin/busybox" $(, $program)*] {
            if !$crate::installed(program) {
                assert!(!demanded, "CORTEN_TEST_ROOT is set, but {program} is missing");
                println!("skipped: needs {program}");
                return;
            }
        }
    };
}

/// The binary under test.
pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-runc-v2");

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Whether a program is a file, or in `PATH`.
pub(crate) fn installed(program: &str) -> bool {
    if program.contains('/') {
        return std::path::Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Waits until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} has not come to pass");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same without blocking the thread.
pub(crate) async fn until_async(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} has not come to pass");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
