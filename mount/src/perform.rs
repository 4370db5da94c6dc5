//! Mounting what a snapshotter described.

use std::ffi::CString;
use std::path::Path;

use corten_types::{Error, Mount, Result};
use libc::{MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT};
use rustix::mount::MountFlags;

use crate::options::{Parsed, parse};
use crate::resolve::place;
use crate::unmount::{UnmountFlags, unmount_one};
use crate::{helper, idmap, loop_device, overlay};

/// A bind mount takes these only in a second call.
const FLAGS_OF_A_BIND: u64 = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

/// Types that only a mount manager can transform into mounts.
const MANAGER_TYPES: [&str; 3] = ["format/", "mkfs/", "mkdir/"];

/// Mounts `mounts` in their order at `target` (an absolute path of an existing folder).
///
/// # Errors
/// As [`mount`]. What was mounted before the failing one is unmounted again.
pub fn mount_all(mounts: &[Mount], target: &Path) -> Result<()> {
    for (index, description) in mounts.iter().enumerate() {
        if let Err(error) = mount(description, target) {
            for done in mounts[..index].iter().rev() {
                if let Ok(place) = place(target, &done.target) {
                    // The first error is the one worth telling.
                    let _ = unmount_one(&place.path(), UnmountFlags::DETACH);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Mounts one `description` at `target`, or at the folder below it that the description names (row R01).
///
/// # Errors
/// `InvalidArgument`: options that contradict each other, are too long, or belong to a mount manager, and what the
/// kernel finds invalid. `NotFound`: the source or the target does not exist. `Unimplemented`: the kernel or this
/// build cannot do it. `PermissionDenied`: not root. Nothing stays mounted.
pub fn mount(description: &Mount, target: &Path) -> Result<()> {
    if let Some(helper) = helper::of(&description.kind) {
        let place = place(target, &description.target)?;
        return helper.run(description, &place.path());
    }
    if let Some(prefix) = MANAGER_TYPES.iter().find(|prefix| description.kind.starts_with(**prefix)) {
        return Err(Error::unimplemented(format!(
            "mount type {:?}: {prefix} needs a mount manager",
            description.kind
        )));
    }
    let parsed = parse(description)?;
    first_call(description, &parsed, target)?;
    let finished = later_calls(description, &parsed, target);
    if finished.is_err()
        && !parsed.has(MS_REMOUNT)
        && let Ok(place) = place(target, &description.target)
    {
        // The error of the later call is the one worth telling.
        let _ = unmount_one(&place.path(), UnmountFlags::DETACH);
    }
    finished
}

/// The call that makes the mount, or changes the data of an existing one.
fn first_call(description: &Mount, parsed: &Parsed, target: &Path) -> Result<()> {
    if parsed.has(MS_REMOUNT) {
        let only_propagation =
            parsed.flags == MS_REMOUNT && parsed.data.is_empty() && !parsed.propagation.is_empty();
        if parsed.has(MS_BIND) || only_propagation {
            return Ok(());
        }
        let place = place(target, &description.target)?;
        let result = call("", &place.path(), "", parsed.flags, &parsed.data.join(","));
        return result.map_err(|error| told(description, target, error));
    }
    let place = place(target, &description.target)?;
    if description.kind == "overlay" {
        return overlay::mount(description, parsed, &place.path());
    }
    let loop_device = if parsed.loop_device {
        let read_only = parsed.has(MS_RDONLY);
        Some(loop_device::attach(Path::new(&description.source), read_only, parsed.direct_io)?)
    } else {
        None
    };
    // The device frees itself with its last user, so it stays open until the mount is one.
    let source = loop_device.as_ref().map_or(description.source.as_str(), |device| device.path());
    let data = parsed.data.join(",");
    overlay::check_length(description, &data)?;
    let result = call(source, &place.path(), &description.kind, parsed.flags, &data);
    result.map_err(|error| told(description, target, error))
}

/// Propagation (row R04), the flags that a bind mount ignores at first (row R03), and mapped ids.
fn later_calls(description: &Mount, parsed: &Parsed, target: &Path) -> Result<()> {
    for propagation in &parsed.propagation {
        let place = place(target, &description.target)?;
        call("", &place.path(), "", *propagation, "").map_err(|error| told(description, target, error))?;
    }
    if parsed.has(MS_BIND) && (parsed.flags & FLAGS_OF_A_BIND != 0 || parsed.has(MS_REMOUNT)) {
        let place = place(target, &description.target)?;
        let remount = |more: u64| call("", &place.path(), "", parsed.flags | more | MS_REMOUNT, "");
        let result = match remount(0) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                remount(locked_flags(&place.path()))
            }
            other => other,
        };
        result.map_err(|error| told(description, target, error))?;
    }
    if description.kind != "overlay"
        && let Some(mapping) = &parsed.id_mapping
    {
        let place = place(target, &description.target)?;
        idmap::remap(&place.path(), mapping)?;
    }
    Ok(())
}

/// What the mount has already and a user namespace may not take away (row R03).
fn locked_flags(path: &Path) -> u64 {
    let Ok(stat) = rustix::fs::statvfs(path) else { return 0 };
    let pairs = [
        (libc::ST_RDONLY, MS_RDONLY),
        (libc::ST_NOSUID, MS_NOSUID),
        (libc::ST_NODEV, MS_NODEV),
        (libc::ST_NOEXEC, MS_NOEXEC),
        (libc::ST_NOATIME, libc::MS_NOATIME),
        (libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (libc::ST_RELATIME, libc::MS_RELATIME),
    ];
    let present = |bit: u64| stat.f_flag.bits() & bit != 0;
    pairs.iter().filter(|(bit, _)| present(*bit)).fold(0, |flags, (_, flag)| flags | flag)
}

/// mount(2).
pub(crate) fn call(source: &str, target: &Path, kind: &str, flags: u64, data: &str) -> std::io::Result<()> {
    let bits = u32::try_from(flags).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    let data = CString::new(data)?;
    rustix::mount::mount(source, target, kind, MountFlags::from_bits_retain(bits), data.as_c_str())?;
    Ok(())
}

/// The error of a mount, with all that is needed to look into it.
pub(crate) fn told(description: &Mount, target: &Path, error: std::io::Error) -> Error {
    let kind = if description.kind.is_empty() { "bind" } else { &description.kind };
    let mut options = description.options.join(",");
    if options.len() > 512 {
        options.truncate(options.floor_char_boundary(512));
        options.push('…');
    }
    Error::io(
        format!(
            "cannot mount {kind} {:?} at {}{}{} with options {options:?}",
            description.source,
            target.display(),
            if description.target.is_empty() { "" } else { "/" },
            description.target.trim_start_matches('/'),
        ),
        error,
    )
}
