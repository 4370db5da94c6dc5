//! Filesystems that a program mounts: `fuse.` and `fuse3.` types (row R07).

use std::path::Path;
use std::process::{Command, Stdio};

use corten_types::{Error, Mount, Result};

use crate::mountinfo::own_mounts;

/// How often a helper is run again when somebody else reaped it: its exit code is lost then.
const REAPED_ELSEWHERE_ATTEMPTS: usize = 10;

/// A program that mounts filesystems of one family.
pub(crate) struct Helper {
    program: &'static str,
    prefix: &'static str,
}

/// The helper for filesystems of type `kind`, if it has one.
pub(crate) fn of(kind: &str) -> Option<Helper> {
    [("mount.fuse3", "fuse3."), ("mount.fuse", "fuse.")]
        .into_iter()
        .find(|(_, prefix)| kind.starts_with(prefix))
        .map(|(program, prefix)| Helper { program, prefix })
}

impl Helper {
    /// Runs `mount.fuse <source> <target> -o <option>... -t <type>`.
    pub(crate) fn run(&self, description: &Mount, target: &Path) -> Result<()> {
        let what =
            || format!("cannot mount {} with {} at {}", description.kind, self.program, target.display());
        let before = mounts_at(target)?;
        for _ in 0..REAPED_ELSEWHERE_ATTEMPTS {
            let mut command = Command::new(self.program);
            command.arg(&description.source).arg(target);
            for option in &description.options {
                command.arg("-o").arg(option);
            }
            command.arg("-t").arg(&description.kind[self.prefix.len()..]);
            match command.stdin(Stdio::null()).output() {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(Error::unknown(format!("{}: {}: {said}", what(), output.status)));
                }
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    // A reaper in this process was faster: look whether it mounted.
                    if mounts_at(target)? > before {
                        return Ok(());
                    }
                }
                Err(error) => return Err(Error::io(what(), error)),
            }
        }
        Err(Error::unavailable(format!("{}: its exit was taken by another part of this process", what())))
    }
}

fn mounts_at(target: &Path) -> Result<usize> {
    Ok(own_mounts()?.iter().filter(|entry| entry.mount_point == target).count())
}
