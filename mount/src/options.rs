//! Options as in fstab, split into what the kernel takes as flags, as data, and what is done here (row R02).

use corten_types::{Error, Mount, Result};
use libc::{
    MS_BIND, MS_DIRSYNC, MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_PRIVATE,
    MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT, MS_SHARED, MS_SLAVE, MS_STRICTATIME, MS_SYNCHRONOUS,
    MS_UNBINDABLE,
};

/// The prefix of options that only a mount manager understands; they must not reach the kernel.
const MANAGER_PREFIX: &str = "X-containerd.";

/// Every propagation type.
const PROPAGATION: u64 = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;

/// The options of one mount, sorted by who acts on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// `MS_*` without propagation.
    pub(crate) flags: u64,
    /// One entry for each propagation word, applied with calls of their own (row R04).
    pub(crate) propagation: Vec<u64>,
    /// What the filesystem itself reads, in the order given.
    pub(crate) data: Vec<String>,
    /// Whether the source is a file that needs a loop device.
    pub(crate) loop_device: bool,
    /// Whether that loop device bypasses the page cache.
    pub(crate) direct_io: bool,
    /// `container:host:length[,...]`, if ids are mapped.
    pub(crate) id_mapping: Option<IdMapping>,
}

/// Both mappings of an id-mapped mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMapping {
    pub(crate) users: String,
    pub(crate) groups: String,
}

impl Parsed {
    /// Whether all of `flags` are set.
    pub(crate) fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }
}

enum Word {
    Set(u64),
    Clear(u64),
    Propagation(u64),
    Nothing,
}

/// What a word of fstab means to the kernel; `None` if it is the filesystem's own.
fn flag_of(word: &str) -> Option<Word> {
    Some(match word {
        "defaults" => Word::Nothing,
        "ro" => Word::Set(MS_RDONLY),
        "rw" => Word::Clear(MS_RDONLY),
        "bind" => Word::Set(MS_BIND),
        "rbind" => Word::Set(MS_BIND | MS_REC),
        "remount" => Word::Set(MS_REMOUNT),
        "sync" => Word::Set(MS_SYNCHRONOUS),
        "async" => Word::Clear(MS_SYNCHRONOUS),
        "dirsync" => Word::Set(MS_DIRSYNC),
        "mand" => Word::Set(MS_MANDLOCK),
        "nomand" => Word::Clear(MS_MANDLOCK),
        "atime" => Word::Clear(MS_NOATIME),
        "noatime" => Word::Set(MS_NOATIME),
        "diratime" => Word::Clear(MS_NODIRATIME),
        "nodiratime" => Word::Set(MS_NODIRATIME),
        "relatime" => Word::Set(MS_RELATIME),
        "norelatime" => Word::Clear(MS_RELATIME),
        "strictatime" => Word::Set(MS_STRICTATIME),
        "nostrictatime" => Word::Clear(MS_STRICTATIME),
        "dev" => Word::Clear(MS_NODEV),
        "nodev" => Word::Set(MS_NODEV),
        "exec" => Word::Clear(MS_NOEXEC),
        "noexec" => Word::Set(MS_NOEXEC),
        "suid" => Word::Clear(MS_NOSUID),
        "nosuid" => Word::Set(MS_NOSUID),
        "shared" => Word::Propagation(MS_SHARED),
        "rshared" => Word::Propagation(MS_SHARED | MS_REC),
        "private" => Word::Propagation(MS_PRIVATE),
        "rprivate" => Word::Propagation(MS_PRIVATE | MS_REC),
        "slave" => Word::Propagation(MS_SLAVE),
        "rslave" => Word::Propagation(MS_SLAVE | MS_REC),
        "unbindable" => Word::Propagation(MS_UNBINDABLE),
        "runbindable" => Word::Propagation(MS_UNBINDABLE | MS_REC),
        _ => return None,
    })
}

/// Sorts the options of `mount`.
///
/// # Errors
/// `InvalidArgument`: an option of a mount manager, or only one of `uidmap` and `gidmap`.
pub(crate) fn parse(mount: &Mount) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    let (mut users, mut groups) = (None, None);
    for option in &mount.options {
        if option.starts_with(MANAGER_PREFIX) {
            return Err(Error::invalid_argument(format!(
                "mount of {} has the option {option:?}, which only a mount manager understands",
                mount.source
            )));
        }
        if let Some(word) = flag_of(option) {
            match word {
                Word::Set(bits) => parsed.flags |= bits,
                Word::Clear(bits) => parsed.flags &= !bits,
                Word::Propagation(bits) => parsed.propagation.push(bits),
                Word::Nothing => {}
            }
        } else if option == "loop" {
            parsed.loop_device = true;
        } else if let Some(mapping) = option.strip_prefix("uidmap=") {
            users = Some(mapping.to_owned());
        } else if let Some(mapping) = option.strip_prefix("gidmap=") {
            groups = Some(mapping.to_owned());
        } else if !option.is_empty() {
            parsed.data.push(option.clone());
        }
    }
    if parsed.loop_device {
        let before = parsed.data.len();
        parsed.data.retain(|option| option != "direct-io");
        parsed.direct_io = parsed.data.len() < before;
    }
    parsed.id_mapping = match (users, groups) {
        (Some(users), Some(groups)) => Some(IdMapping { users, groups }),
        (None, None) => None,
        _ => {
            return Err(Error::invalid_argument(format!(
                "mount of {} maps only users or only groups; both are needed",
                mount.source
            )));
        }
    };
    debug_assert_eq!(parsed.flags & PROPAGATION, 0, "propagation has calls of its own");
    Ok(parsed)
}

#[cfg(test)]
mod tests;
