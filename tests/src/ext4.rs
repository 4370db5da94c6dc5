//! A fresh ext4, mounted through a loop device.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;
use rustix::mount::UnmountFlags;

/// A mounted ext4. Dropping it unmounts it, and with it goes the loop device.
#[derive(Debug)]
pub struct Ext4 {
    mounted_at: Option<PathBuf>,
}

impl Ext4 {
    /// Makes the file system in `image`: a file that has its size and holds zeros, which are not written again.
    ///
    /// # Errors
    /// If `mkfs.ext4` (package e2fsprogs) fails; the error has what it said.
    pub fn format(image: &Path, options: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("/sbin/mkfs.ext4");
        run(command.args(["-q", "-F", "-E", "assume_storage_prezeroed=1"]).args(options).arg(image))
    }

    /// Mounts `image` at the folder `at`. After a power cut this replays the journal.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn mount(image: &Path, at: &Path) -> anyhow::Result<Self> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(at))?;
        Ok(Self { mounted_at: Some(at.to_owned()) })
    }

    /// Unmounts and tells if that went wrong: somebody still uses it then, and it is gone with the last user.
    ///
    /// # Errors
    /// If it is busy.
    pub fn unmount(mut self) -> anyhow::Result<()> {
        let Some(at) = self.mounted_at.take() else { return Ok(()) };
        let patient = rustix::mount::unmount(&at, UnmountFlags::empty());
        if patient.is_err() {
            rustix::mount::unmount(&at, UnmountFlags::DETACH)?;
        }
        Ok(patient?)
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        if let Some(at) = self.mounted_at.take()
            && let Err(error) = rustix::mount::unmount(&at, UnmountFlags::DETACH)
        {
            eprintln!("cannot unmount {}: {error}", at.display());
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
