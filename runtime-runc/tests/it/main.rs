//! The crate against the real runc, with busybox as the container's root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bundle;
mod failures;
mod lifecycle;
mod terminal;

/// Leaves the test unless it runs as root; fails instead where `CORTEN_TEST_ROOT=1` demands a root run.
#[macro_export]
macro_rules! root_or_skip {
    () => {
        if !rustix::process::geteuid().is_root() {
            assert!(
                std::env::var_os("CORTEN_TEST_ROOT").is_none(),
                "CORTEN_TEST_ROOT is set, but this is not root"
            );
            println!("skipped: needs root");
            return;
        }
    };
}
