//! The conformance suite of [`ContentStore`]: what every implementation must do.
//!
//! An implementation gives a [`Subject`] in a test target of its own, with `harness = false`:
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use corten_content_store::{ContentStore, LocalStore, testsuite::{self, Subject}};
//! struct Local;
//!
//! #[async_trait::async_trait]
//! impl Subject for Local {
//!     async fn open(&self, root: &Path) -> corten_types::Result<Box<dyn ContentStore>> {
//!         Ok(Box::new(LocalStore::open(root, corten_disk::Disk::new())?))
//!     }
//! }
//!
//! fn main() {
//!     testsuite::run(Arc::new(Local)).exit();
//! }
//! ```

mod announcements;
mod blobs;
mod cases;
mod digests;
mod ingests;
mod labels;
mod support;

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use corten_types::Result;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

use crate::ContentStore;

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
    /// A new, empty store with its state under `root`. Called once a case, inside a tokio runtime with several threads that
    /// lives as long as the case.
    async fn open(&self, root: &Path) -> Result<Box<dyn ContentStore>>;

    /// Cases that cannot hold, and why.
    fn known_gaps(&self) -> Vec<Gap> {
        Vec::new()
    }
}

/// Runs every case as a named test, with the arguments of the process as the standard harness takes them.
pub fn run(subject: Arc<dyn Subject>) -> Conclusion {
    libtest_mimic::run(&Arguments::from_args(), trials(subject))
}

/// Every case as a named test.
///
/// # Panics
/// If a gap names no case.
pub fn trials(subject: Arc<dyn Subject>) -> Vec<Trial> {
    let gaps = subject.known_gaps();
    for gap in &gaps {
        assert!(cases::ALL.iter().any(|case| case.name == gap.case), "there is no case {:?}", gap.case);
    }
    let trial = |case: &'static cases::Case| {
        let gap = gaps.iter().find(|gap| gap.case == case.name).copied();
        let subject = Arc::clone(&subject);
        Trial::test(case.name, move || check(subject.as_ref(), case, gap))
    };
    cases::ALL.iter().map(trial).collect()
}

fn check(subject: &dyn Subject, case: &cases::Case, gap: Option<Gap>) -> Result<(), Failed> {
    let passed = panic::catch_unwind(AssertUnwindSafe(|| run_case(subject, case)));
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

fn run_case(subject: &dyn Subject, case: &cases::Case) {
    let root = tempfile::tempdir().expect("the test can make a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the test can start a runtime");
    runtime.block_on(async {
        let store = subject.open(root.path()).await.expect("the store opens");
        (case.run)(store.as_ref()).await;
    });
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}
