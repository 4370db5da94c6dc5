//! A fresh ext4 on a loop file in memory: removing and repeating on one filesystem measures its habits instead.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;

/// A mounted filesystem; it goes when this is dropped.
pub(crate) struct Fresh {
    folder: tempfile::TempDir,
}

impl Fresh {
    /// Makes and mounts one of `size_mb` megabytes.
    pub(crate) fn new(size_mb: u64) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("corten-bench-").tempdir_in("/dev/shm")?;
        let image = folder.path().join("image");
        std::fs::File::create(&image)?.set_len(size_mb * 1024 * 1024)?;
        let fresh = Self { folder };
        std::fs::create_dir(fresh.path())?;
        run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(fresh.path()))?;
        Ok(fresh)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.path())) {
            eprintln!("{error}");
        }
    }
}

/// Waits until everything on the filesystem that holds `path` is on its device.
pub(crate) fn sync(path: &Path) -> anyhow::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(path)?)?)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
