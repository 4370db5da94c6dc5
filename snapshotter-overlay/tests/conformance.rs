//! Snapshots on overlayfs pass the suite of their contract.

use std::path::Path;
use std::sync::Arc;

use corten_snapshotter::Snapshotter;
use corten_snapshotter::testsuite::{self, Gap, Subject};
use corten_snapshotter_overlay::{Options, OverlaySnapshotter};
use corten_types::Result;

struct Overlay;

#[async_trait::async_trait]
impl Subject for Overlay {
    async fn open(&self, root: &Path) -> Result<Box<dyn Snapshotter>> {
        Ok(Box::new(OverlaySnapshotter::open(root, Options::default())?))
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
    testsuite::run(Arc::new(Overlay)).exit();
}
