//! `loop`: a file becomes a block device, and the mount point a link to it.

use std::path::Path;

use corten_mount::{LoopDevice, LoopOptions, loop_backing_file, release_loop_device};
use corten_types::{Error, Mount, Result};

use super::{Handler, active};
use crate::record::ActiveMount;

pub(super) struct Loops;

impl Handler for Loops {
    fn mount(&self, mount: &Mount, point: &Path, _: &[ActiveMount]) -> Result<ActiveMount> {
        let mut options = LoopOptions::default();
        for option in &mount.options {
            match option.as_str() {
                "ro" => options.read_only = true,
                "rw" => options.read_only = false,
                "direct-io" => options.direct_io = true,
                _ => {
                    let message = format!("the mount of {} has the option {option:?}", mount.source);
                    return Err(Error::invalid_argument(format!(
                        "{message}; a loop device takes ro, rw and direct-io"
                    )));
                }
            }
        }
        let device = LoopDevice::attach(Path::new(&mount.source), options)?;
        // The link first: whoever cleans up finds by it what is to be released.
        rustix::fs::symlink(device.path(), point)
            .map_err(|error| Error::io(format!("cannot make the link {}", point.display()), error.into()))?;
        if let Err(error) = device.keep() {
            // The device goes by itself.
            let _ = rustix::fs::unlink(point);
            return Err(error);
        }
        Ok(active(mount.clone(), point))
    }

    fn unmount(&self, source: &Path, point: &Path) -> Result<()> {
        let Ok(device) = std::fs::read_link(point) else { return Ok(()) };
        // After a reboot the device of that name may be another's.
        if stands_for(&device, source) {
            release_loop_device(&device)?;
        }
        match rustix::fs::unlink(point) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io(format!("cannot remove the link {}", point.display()), error.into())),
        }
    }

    fn is_there(&self, source: &Path, point: &Path, _: &dyn Fn(&Path) -> bool) -> bool {
        std::fs::read_link(point).is_ok_and(|device| stands_for(&device, source))
    }
}

/// Whether the device is attached to the file, which may have been deleted meanwhile.
fn stands_for(device: &Path, source: &Path) -> bool {
    let deleted = format!("{} (deleted)", source.display());
    loop_backing_file(device).is_some_and(|file| file == source || file.as_os_str() == deleted.as_str())
}
