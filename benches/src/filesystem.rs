//! A fresh ext4 on a loop file: removing and repeating on one filesystem measures its habits instead.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use corten_tests::{BlockFile, Ext4, SlowDisk};

/// A mounted filesystem; it goes when this is dropped.
pub(crate) struct Fresh {
    // In this order: what stands on the disk goes before it.
    mounted: Option<Ext4>,
    disk: Option<BlockFile>,
    folder: tempfile::TempDir,
}

impl Fresh {
    /// Makes and mounts one of `size_mb` megabytes. Its loop file lies in `parent` and has holes.
    pub(crate) fn new(parent: &Path, size_mb: u64) -> anyhow::Result<Self> {
        Self::with_slow_flushes(parent, size_mb, None)
    }

    /// The same, on a device whose flushes take `delay` longer.
    pub(crate) fn with_slow_flushes(
        parent: &Path,
        size_mb: u64,
        delay: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("corten-bench-").tempdir_in(parent)?;
        let (size_bytes, image) = (size_mb * 1024 * 1024, folder.path().join("image"));
        let disk = match delay {
            None => {
                std::fs::File::create(&image)?.set_len(size_bytes)?;
                None
            }
            Some(delay) => Some(BlockFile::mount(Arc::new(SlowDisk::new(parent, size_bytes, delay)?))?),
        };
        let image = disk.as_ref().map_or(image, BlockFile::path);
        let mut fresh = Self { mounted: None, disk, folder };
        std::fs::create_dir(fresh.path())?;
        Ext4::format(&image, &["-E", "lazy_itable_init=0,lazy_journal_init=0,assume_storage_prezeroed=1"])?;
        fresh.mounted = Some(Ext4::mount(&image, &fresh.path())?);
        Ok(fresh)
    }

    /// How many flushes its device was asked for.
    pub(crate) fn flushes(&self) -> anyhow::Result<f64> {
        let device = std::fs::metadata(self.path())?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let statistics = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
        let flushes = statistics.split_whitespace().nth(15).context("this kernel does not count flushes")?;
        Ok(flushes.parse()?)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.mounted.take().map(Ext4::unmount) {
            eprintln!("{} was still in use: {error}", self.path().display());
        }
        drop(self.disk.take());
    }
}

/// Waits until everything on the filesystem that holds `path` is on its device.
pub(crate) fn sync(path: &Path) -> anyhow::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(path)?)?)
}

/// Runs a command; an error has what it complained about.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
