//! Overlays, also of many layers: the kernel takes one page of options (row R05).

use std::path::{Component, Path, PathBuf};

use corten_types::{Error, Mount, Result};
use libc::{MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_STRICTATIME};
use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use rustix::thread::UnshareFlags;

use crate::idmap;
use crate::options::Parsed;
use crate::perform::{call, told};

/// What containerd leaves free of the page.
const RESERVE_BYTES: usize = 512;

/// The most that mount(2) copies.
fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Refuses data that the kernel would cut off.
pub(crate) fn check_length(description: &Mount, data: &str) -> Result<()> {
    if data.len() < page_bytes() {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "mount options is too long: {} bytes for {} {:?}, at most {} are possible",
        data.len(),
        description.kind,
        description.source,
        page_bytes() - 1
    )))
}

/// Mounts an overlay at `target`.
pub(crate) fn mount(description: &Mount, parsed: &Parsed, target: &Path) -> Result<()> {
    let Some(mapping) = &parsed.id_mapping else {
        return mount_plain(description, parsed, target);
    };
    // The lower folders are looked at through one mapped mount of the folder that holds them all (row R06). The
    // overlay keeps clones of it, so it goes again right away.
    let Some(lower) = Lower::of(&parsed.data) else {
        return Err(Error::invalid_argument("an overlay without lowerdir cannot map ids"));
    };
    let (common, _) = lower.relative().ok_or_else(|| {
        Error::invalid_argument(format!(
            "the lower folders of the overlay at {} share no folder",
            target.display()
        ))
    })?;
    let mapped = idmap::MappedFolder::mount(&common, mapping)?;
    let mut rewritten = parsed.clone();
    rewritten.id_mapping = None;
    rewritten.data[lower.index] = lower.moved(&common, mapped.path());
    mount_plain(description, &rewritten, target)
}

fn mount_plain(description: &Mount, parsed: &Parsed, target: &Path) -> Result<()> {
    let data = parsed.data.join(",");
    let told = |error| told(description, target, error);
    if data.len() < page_bytes() - RESERVE_BYTES {
        return call(&description.source, target, "overlay", parsed.flags, &data).map_err(told);
    }
    let Some((lower, (common, relative))) =
        Lower::of(&parsed.data).and_then(|lower| lower.relative().map(|relative| (lower, relative)))
    else {
        check_length(description, &data)?;
        return call(&description.source, target, "overlay", parsed.flags, &data).map_err(told);
    };
    let mut shorter = parsed.data.clone();
    shorter[lower.index] = format!("lowerdir={}", relative.join(":"));
    let data = shorter.join(",");
    // An option beside lowerdir may name a folder by a relative path, but the target must not move.
    let target_here = std::path::absolute(target).map_err(told)?;
    if data.len() < page_bytes() {
        let work = || call(&description.source, &target_here, "overlay", parsed.flags, &data);
        return in_folder(&common, work).map_err(told);
    }
    let others: Vec<String> = parsed
        .data
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != lower.index)
        .map(|(_, word)| word.clone())
        .collect();
    let work = || mount_piecewise(&description.source, &target_here, parsed.flags, &others, &relative);
    match in_folder(&common, work) {
        // A kernel before 6.8 knows no `lowerdir+`: then the page is the limit.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            check_length(description, &data)?;
            Err(told(error))
        }
        other => other.map_err(told),
    }
}

/// Runs `work` in a thread whose working folder is `folder`; the process keeps its own.
fn in_folder(folder: &Path, work: impl FnOnce() -> std::io::Result<()> + Send) -> std::io::Result<()> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("overlay-mount".to_owned()).spawn_scoped(scope, || {
                // SAFETY: CLONE_FS only gives this thread a working folder, root and umask of its own; the thread ends
                // after the call, so nothing else ever sees them.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
                rustix::process::chdir(folder)?;
                work()
            })?;
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the mounting thread panicked")))
    })
}

/// The mount interface of Linux 6.8 and later, one lower folder a call.
fn mount_piecewise(
    source: &str,
    target: &Path,
    flags: u64,
    options: &[String],
    lower: &[String],
) -> std::io::Result<()> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", source)?;
    if flags & MS_RDONLY != 0 {
        rustix::mount::fsconfig_set_flag(&context, "ro")?;
    }
    for folder in lower {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", unescaped(folder))?;
    }
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, option.as_str())?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let mounted = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags))?;
    rustix::mount::move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// `MS_*` as the newer interface names them.
fn attributes(flags: u64) -> MountAttrFlags {
    let pairs = [
        (MS_RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MS_NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MS_NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MS_NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MS_NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (MS_STRICTATIME, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
        (MS_NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ];
    pairs
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .fold(MountAttrFlags::empty(), |all, (_, one)| all | *one)
}

/// The lower folders of an overlay, nearest first, as written (colons in names are escaped with `\`).
struct Lower {
    /// Which of the options it is.
    index: usize,
    folders: Vec<String>,
}

impl Lower {
    fn of(data: &[String]) -> Option<Self> {
        let index = data.iter().position(|option| option.starts_with("lowerdir="))?;
        Some(Self { index, folders: split_unescaped(&data[index]["lowerdir=".len()..]) })
    }

    /// The deepest folder above all of them and their paths from there. `None` if that is only the root, or if one
    /// of them is relative or odd (`..`, an empty name for data-only layers).
    fn relative(&self) -> Option<(PathBuf, Vec<String>)> {
        let plain: Vec<PathBuf> =
            self.folders.iter().map(|folder| PathBuf::from(unescaped(folder))).collect();
        let odd = |path: &PathBuf| {
            !path.is_absolute() || path.components().any(|part| part == Component::ParentDir)
        };
        if plain.iter().any(odd) {
            return None;
        }
        let mut common = plain.first()?.parent()?.to_owned();
        while !plain.iter().all(|path| path.starts_with(&common) && path != &common) {
            common = common.parent()?.to_owned();
        }
        // Nothing is gained by moving to the root.
        common.parent()?;
        let relative: Option<Vec<String>> = plain
            .iter()
            .map(|path| path.strip_prefix(&common).ok().and_then(Path::to_str).map(escaped))
            .collect();
        Some((common, relative?))
    }

    /// The option with `from` replaced by `to` in every folder.
    fn moved(&self, from: &Path, to: &Path) -> String {
        let folders: Vec<String> = self
            .folders
            .iter()
            .map(|folder| {
                let plain = PathBuf::from(unescaped(folder));
                let moved = plain.strip_prefix(from).map(|rest| to.join(rest)).unwrap_or(plain);
                escaped(&moved.to_string_lossy())
            })
            .collect();
        format!("lowerdir={}", folders.join(":"))
    }
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == ':' {
            parts.push(String::new());
            continue;
        }
        let last = parts.last_mut().expect("there is always a last part");
        last.push(character);
        if character == '\\' {
            last.extend(characters.next());
        }
    }
    parts
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    plain
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests;
