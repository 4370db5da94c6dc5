//! The engine on real directories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apply;
mod compare;
mod hostile;
mod layer;
mod oracle;
mod store;
mod tree;
mod unpack;
mod whiteouts;

/// Returns from a test that needs root, unless this is root. With `CORTEN_TEST_ROOT=1` it fails instead.
macro_rules! root_or_skip {
    () => {
        if !rustix::process::geteuid().is_root() {
            assert!(
                std::env::var_os("CORTEN_TEST_ROOT").is_none(),
                "CORTEN_TEST_ROOT is set, but this is not root"
            );
            eprintln!("skipped: needs root");
            return;
        }
    };
}
pub(crate) use root_or_skip;
