//! `erofs`: images that are mounted as files where the kernel can (6.12), and through loop devices where it cannot.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use corten_mount::{LoopDevice, LoopOptions};
use corten_types::{Error, Mount, Result};

use super::{Handler, Plain, active, make_folder};
use crate::record::ActiveMount;

const VERITY: &str = "X-containerd.dmverity=";
const DEVICE: &str = "device=";

/// What the kernel says that does not mount files (`ENOTBLK`).
const NO_BLOCK_DEVICE: i32 = 15;

pub(super) struct Erofs;

/// Whether this kernel refused a file once.
static NEEDS_LOOP: AtomicBool = AtomicBool::new(false);

impl Handler for Erofs {
    fn mount(&self, mount: &Mount, point: &Path, _: &[ActiveMount]) -> Result<ActiveMount> {
        if mount.options.iter().any(|option| option.starts_with(VERITY)) {
            let message = format!("{}: images with dm-verity cannot be mounted here", mount.source);
            return Err(Error::failed_precondition(message));
        }
        let mut wanted = mount.clone();
        // Whether a device is needed is decided here.
        wanted.options.retain(|option| option != "loop");
        make_folder(point)?;
        if !NEEDS_LOOP.load(Ordering::Relaxed) {
            match corten_mount::mount(&wanted, point) {
                Ok(()) => return Ok(active(wanted, point)),
                Err(error) if wants_a_device(&error) => NEEDS_LOOP.store(true, Ordering::Relaxed),
                Err(error) => return Err(error),
            }
        }
        // They free themselves with the mount.
        let mut devices = Vec::new();
        let mut attach = |file: &str| -> Result<String> {
            let device =
                LoopDevice::attach(Path::new(file), LoopOptions { read_only: true, direct_io: false })?;
            let path = device.path().to_owned();
            devices.push(device);
            Ok(path)
        };
        let mut attached = wanted.clone();
        attached.source = attach(&wanted.source)?;
        for option in &mut attached.options {
            if let Some(file) = option.strip_prefix(DEVICE) {
                *option = format!("{DEVICE}{}", attach(file)?);
            }
        }
        corten_mount::mount(&attached, point)?;
        Ok(active(attached, point))
    }

    fn unmount(&self, source: &Path, point: &Path) -> Result<()> {
        Plain.unmount(source, point)
    }

    fn is_there(&self, source: &Path, point: &Path, is_mount_point: &dyn Fn(&Path) -> bool) -> bool {
        Plain.is_there(source, point, is_mount_point)
    }
}

fn wants_a_device(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(system) = error.downcast_ref::<std::io::Error>()
            && system.raw_os_error() == Some(NO_BLOCK_DEVICE)
        {
            return true;
        }
        next = error.source();
    }
    false
}
