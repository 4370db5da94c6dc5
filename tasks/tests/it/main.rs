//! Tasks with real shims and a real runc. Every test runs with containerd's stock shim, and with ours if it is built.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "scratch files need not be durable")]

mod bootstrap;
mod container;
mod daemon;
mod death;
mod exec;
mod lifecycle;
mod many;
mod recovery;
mod refusals;

use std::{future::Future, path::PathBuf, time::Duration};

/// How long one test may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Which shim a test runs with.
#[derive(Clone, Debug)]
pub(crate) struct Shim(pub(crate) PathBuf);

impl Shim {
    pub(crate) fn stock() -> Option<Self> {
        let path = PathBuf::from("/usr/bin/containerd-shim-runc-v2");
        path.exists().then_some(Self(path))
    }

    /// `CORTEN_TEST_SHIM`, or the one in the folder where this test was built.
    pub(crate) fn ours() -> Option<Self> {
        if let Some(path) = std::env::var_os("CORTEN_TEST_SHIM") {
            return Some(Self(path.into()));
        }
        let program = std::env::current_exe().ok()?;
        let path = program.parent()?.parent()?.join("containerd-shim-runc-v2");
        path.exists().then_some(Self(path))
    }
}

/// Runs a test as root, or says why not.
pub(crate) fn run<F: Future<Output = ()>>(shim: Option<Shim>, test: impl FnOnce(Shim) -> F) {
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var_os("CORTEN_TEST_ROOT").is_none(),
            "CORTEN_TEST_ROOT is set, but this is not root"
        );
        println!("skipped: needs root");
        return;
    }
    let Some(shim) = shim else {
        println!("skipped: this shim is not here");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::var_os("RUST_LOG").is_some() {
        let log =
            tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env());
        let _ = log.with_writer(std::io::stderr).try_init();
    }
    // A test that hangs is ended, so that what it left is removed.
    let finished = runtime.block_on(async { tokio::time::timeout(LIMIT, test(shim)).await });
    finished.expect("the test has not finished in time");
}

/// Makes two tests of each function: with the stock shim and with ours.
macro_rules! with_both_shims {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        mod stock {
            $($(#[$attribute])* #[test] fn $name() { crate::run(crate::Shim::stock(), super::$name); })*
        }
        mod ours {
            $($(#[$attribute])* #[test] fn $name() { crate::run(crate::Shim::ours(), super::$name); })*
        }
    };
}
pub(crate) use with_both_shims;
