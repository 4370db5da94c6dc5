//! The engine on real directories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apply;
mod bombs;
mod compare;
mod corpus;
mod deferred;
mod early;
mod hostile;
mod layer;
mod lower_links;
mod oracle;
mod races;
mod rows;
mod sink;
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
