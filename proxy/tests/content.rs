//! The proxy of a content store passes the suite of the contract, over a socket.

#[path = "support/content.rs"]
mod content_service;
#[path = "support/server.rs"]
mod server;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use corten_content_store::{
    ContentStore, LocalStore,
    testsuite::{self, Gap, Subject},
};
use corten_disk::Disk;
use corten_proxy::{Connection, ContentProxy};
use corten_types::Result;

struct Remote;

const NO_LABELS: &str = "the store behind the server keeps no labels";

#[async_trait]
impl Subject for Remote {
    async fn open(&self, root: &Path) -> Result<Box<dyn ContentStore>> {
        let store = LocalStore::open(&root.join("store"), Disk::new())?;
        // It ends with the runtime of the case.
        let (socket, _task) = server::serve(root, content_service::service(Arc::new(store)));
        Ok(Box::new(ContentProxy::new(&Connection::unix(&socket), server::scope())))
    }

    fn known_gaps(&self) -> Vec<Gap> {
        let deleted = Gap {
            case: "an_open_blob_stays_readable_after_its_deletion",
            reason: "every read asks the server, which has nothing open in between",
        };
        let labels = [
            "labels_of_a_commit_are_kept",
            "labels_are_replaced_without_a_mask",
            "a_mask_changes_one_label",
            "another_path_in_a_mask_is_refused",
            "labels_of_an_absent_blob_are_not_found",
            "too_long_labels_are_refused",
            "filters_look_at_labels",
        ];
        let labels = labels.map(|case| Gap { case, reason: NO_LABELS });
        std::iter::once(deleted).chain(labels).collect()
    }
}

fn main() {
    testsuite::run(Arc::new(Remote)).exit();
}
