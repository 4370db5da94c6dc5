//! Types of mounts that take more than a call of the kernel.

mod erofs;
mod loops;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::SystemTime};

use corten_mount::{UnmountFlags, unmount};
use corten_types::{Error, Mount, Result};

use crate::record::ActiveMount;

/// Makes and ends mounts of one type. It is called on threads that may block.
pub trait Handler: Send + Sync {
    /// Mounts `mount` at `point`, an absolute path that does not exist yet; the handler makes a folder or a link of it.
    /// `earlier` are the mounts before it.
    ///
    /// # Errors
    /// Nothing stays but perhaps an empty folder at `point`.
    fn mount(&self, mount: &Mount, point: &Path, earlier: &[ActiveMount]) -> Result<ActiveMount>;

    /// Ends what [`mount`](Self::mount) made of `source` at `point`. Called again after a failure, and for what a crash
    /// left: nothing there is fine. A folder at `point` stays.
    ///
    /// # Errors
    /// `Unavailable` if somebody uses it.
    fn unmount(&self, source: &Path, point: &Path) -> Result<()>;

    /// Whether what was made of `source` is still at `point`; `is_mount_point` knows the mount table.
    fn is_there(&self, source: &Path, point: &Path, is_mount_point: &dyn Fn(&Path) -> bool) -> bool;
}

/// The handlers `loop` and `erofs`.
pub(crate) fn built_in() -> BTreeMap<String, Arc<dyn Handler>> {
    let loops: Arc<dyn Handler> = Arc::new(loops::Loops);
    let erofs: Arc<dyn Handler> = Arc::new(erofs::Erofs);
    BTreeMap::from([("loop".to_owned(), loops), ("erofs".to_owned(), erofs)])
}

/// What the kernel mounts by itself.
pub(crate) struct Plain;

impl Handler for Plain {
    fn mount(&self, mount: &Mount, point: &Path, _: &[ActiveMount]) -> Result<ActiveMount> {
        make_folder(point)?;
        corten_mount::mount(mount, point)?;
        Ok(active(mount.clone(), point))
    }

    fn unmount(&self, _: &Path, point: &Path) -> Result<()> {
        unmount(point, UnmountFlags { no_follow: true, ..UnmountFlags::NONE })
    }

    fn is_there(&self, _: &Path, point: &Path, is_mount_point: &dyn Fn(&Path) -> bool) -> bool {
        is_mount_point(point)
    }
}

fn make_folder(point: &Path) -> Result<()> {
    rustix::fs::mkdir(point, rustix::fs::Mode::RWXU)
        .map_err(|error| Error::io(format!("cannot make the mount point {}", point.display()), error.into()))
}

fn active(mount: Mount, point: &Path) -> ActiveMount {
    ActiveMount {
        mount,
        mounted_at: SystemTime::now(),
        mount_point: point.display().to_string(),
        data: BTreeMap::new(),
    }
}
