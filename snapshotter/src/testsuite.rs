//! The conformance suite of [`Snapshotter`]: what every implementation must do.
//!
//! An implementation gives a [`Subject`] in a test target of its own, with `harness = false`:
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use corten_snapshotter::{Snapshotter, testsuite::{self, Subject}};
//! struct Mine;
//!
//! #[async_trait::async_trait]
//! impl Subject for Mine {
//!     async fn open(&self, root: &Path) -> corten_types::Result<Box<dyn Snapshotter>> {
//!         # let _ = root;
//!         unreachable!("open it here")
//!     }
//! }
//!
//! fn main() {
//!     testsuite::run(Arc::new(Mine)).exit();
//! }
//! ```
//!
//! Each case runs in a mount namespace of its own, so that nothing it mounts outlives it. That needs root; without it no
//! case runs, and with `CORTEN_TEST_ROOT` set that is a failure.

mod cases;
mod errors;
pub mod faults;
mod files;
mod labels;
mod lifecycle;
mod tree;
mod world;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use corten_types::Result;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

use crate::Snapshotter;
use world::World;

/// A case that an implementation does not pass, and why. One that passes nevertheless is an error.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The name of the case.
    pub case: &'static str,
    /// Why it cannot hold.
    pub reason: &'static str,
}

/// An implementation under test.
#[async_trait]
pub trait Subject: Send + Sync + 'static {
    /// A new, empty snapshotter with its state under `root`. Called once a case, inside a tokio runtime with several
    /// threads that lives as long as the case.
    async fn open(&self, root: &Path) -> Result<Box<dyn Snapshotter>>;

    /// Cases that cannot hold on this machine, and why.
    fn known_gaps(&self) -> Vec<Gap> {
        Vec::new()
    }
}

/// Runs every case as a named test, with the arguments of the process as the standard harness takes them.
///
/// # Panics
/// If `CORTEN_TEST_ROOT` is set and this is not root, or if a gap names no case.
pub fn run(subject: Arc<dyn Subject>) -> Conclusion {
    libtest_mimic::run(&Arguments::from_args(), trials(subject))
}

/// Every case as a named test; none without root.
///
/// # Panics
/// As [`run`].
pub fn trials(subject: Arc<dyn Subject>) -> Vec<Trial> {
    let gaps = subject.known_gaps();
    for gap in &gaps {
        assert!(cases::ALL.iter().any(|case| case.name == gap.case), "there is no case {:?}", gap.case);
    }
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var_os("CORTEN_TEST_ROOT").is_none(),
            "CORTEN_TEST_ROOT is set, but this is not root"
        );
        // Not to the standard output: runners read the list of cases there.
        eprintln!("skipped: needs root");
        return Vec::new();
    }
    let trial = |case: &'static cases::Case| {
        let gap = gaps.iter().find(|gap| gap.case == case.name).copied();
        let subject = Arc::clone(&subject);
        Trial::test(case.name, move || check(subject, case, gap))
    };
    cases::ALL.iter().map(trial).collect()
}

fn check(subject: Arc<dyn Subject>, case: &'static cases::Case, gap: Option<Gap>) -> Result<(), Failed> {
    let thread = std::thread::Builder::new().name(case.name.to_owned());
    let passed = thread
        .spawn(move || World::enter(subject.as_ref(), |world| (case.run)(world)))
        .map_err(|error| format!("cannot start a thread: {error}"))?
        .join();
    match (passed, gap) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(gap)) => {
            Err(format!("it passes, but is listed as a gap: {}; take it off the list", gap.reason).into())
        }
        (Err(_), Some(gap)) => {
            eprintln!("{}: a known gap: {}", case.name, gap.reason);
            Ok(())
        }
        (Err(panic), None) => Err(message_of(panic.as_ref()).into()),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}
