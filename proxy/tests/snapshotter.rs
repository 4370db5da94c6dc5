//! The proxy of a snapshotter passes the suite of the contract, over a socket.

#[path = "support/server.rs"]
mod server;
#[path = "support/snapshots.rs"]
mod snapshots_service;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use corten_proxy::{Connection, SnapshotterProxy};
use corten_snapshotter::{
    Snapshotter,
    testsuite::{self, Gap, Subject},
};
use corten_snapshotter_overlay::{Options, OverlaySnapshotter};
use corten_types::Result;

struct Remote;

#[async_trait]
impl Subject for Remote {
    async fn open(&self, root: &Path) -> Result<Box<dyn Snapshotter>> {
        let snapshotter = OverlaySnapshotter::open(&root.join("snapshots"), Options::default())?;
        // It ends with the runtime of the case.
        let (socket, _task) = server::serve(root, snapshots_service::service(Arc::new(snapshotter)));
        let connection = Connection::unix(&socket);
        Ok(Box::new(SnapshotterProxy::new(&connection, server::scope(), snapshots_service::NAME)))
    }

    fn known_gaps(&self) -> Vec<Gap> {
        let redirects =
            std::fs::read_to_string("/sys/module/overlay/parameters/redirect_dir").unwrap_or_default();
        if redirects.trim() == "Y" {
            return Vec::new();
        }
        vec![Gap {
            case: "a_folder_of_a_lower_layer_is_renamed",
            reason: "overlayfs answers EXDEV unless redirect_dir is on; programs copy then",
        }]
    }
}

fn main() {
    testsuite::run(Arc::new(Remote)).exit();
}
