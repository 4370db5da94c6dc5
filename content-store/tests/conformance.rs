//! The store on a local filesystem passes the suite of its contract.

use std::{path::Path, sync::Arc};

use corten_content_store::{
    ContentStore, LocalStore,
    testsuite::{self, Gap, Subject},
};
use corten_disk::Disk;
use corten_types::Result;

struct Local;

#[async_trait::async_trait]
impl Subject for Local {
    async fn open(&self, root: &Path) -> Result<Box<dyn ContentStore>> {
        Ok(Box::new(LocalStore::open(root, Disk::new())?))
    }

    fn known_gaps(&self) -> Vec<Gap> {
        const NO_LABELS: &str = "opened without labels; they are kept with the names, a layer above";
        [
            "labels_of_a_commit_are_kept",
            "labels_are_replaced_without_a_mask",
            "a_mask_changes_one_label",
            "another_path_in_a_mask_is_refused",
            "labels_of_an_absent_blob_are_not_found",
            "too_long_labels_are_refused",
            "filters_look_at_labels",
        ]
        .map(|case| Gap { case, reason: NO_LABELS })
        .to_vec()
    }
}

/// The same with labels: no gaps.
struct Labelled;

#[async_trait::async_trait]
impl Subject for Labelled {
    async fn open(&self, root: &Path) -> Result<Box<dyn ContentStore>> {
        Ok(Box::new(LocalStore::open_labelled(root, Disk::new())?))
    }
}

fn main() {
    let mut trials = testsuite::trials(Arc::new(Local));
    let labelled = testsuite::trials(Arc::new(Labelled));
    trials.extend(labelled.into_iter().map(|trial| trial.with_kind("labelled")));
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit();
}
