//! Early write-back, so that the final flush has little left to do.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::root::Root;

/// What the kernel writes back is pages.
const PAGE_BYTES: u64 = 4096;

/// Counts unpacked bytes, and flushes the filesystem on a thread of its own whenever there are enough.
pub(crate) struct WriteBack {
    /// Opened before the first write: the kernel reports to it what went wrong since.
    filesystem: Arc<OwnedFd>,
    threshold_bytes: u64,
    pending_bytes: u64,
    worker: Option<Worker>,
}

struct Worker {
    wake: SyncSender<()>,
    thread: JoinHandle<Result<(), Errno>>,
}

impl WriteBack {
    pub(crate) fn new(root: &Root, threshold_bytes: u64) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let filesystem = Arc::new(fs::openat(root, c".", flags, Mode::empty())?);
        Ok(Self { filesystem, threshold_bytes, pending_bytes: 0, worker: None })
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.pending_bytes += bytes;
        if self.pending_bytes >= self.threshold_bytes {
            self.pending_bytes = 0;
            if self.worker.is_none() {
                self.worker = Worker::start(&self.filesystem);
            }
            if let Some(worker) = &self.worker {
                // A flush that is under way and one that waits are enough.
                let _ = worker.wake.try_send(());
            }
        }
    }

    /// Counts what a file of this size takes besides its bytes: whole pages wait to be written.
    pub(crate) fn add_rest_of_page(&mut self, size_bytes: u64) {
        self.add(size_bytes.wrapping_neg() % PAGE_BYTES);
    }

    /// Waits for what was begun, and flushes the rest if `sync`. An error of any flush is an error here: the kernel
    /// reports each only once.
    pub(crate) fn finish(self, sync: bool) -> Result<(), Errno> {
        let begun = self.worker.map_or(Ok(()), |Worker { wake, thread }| {
            drop(wake);
            thread.join().unwrap_or(Err(Errno::IO))
        });
        let rest = if sync { fs::syncfs(&*self.filesystem) } else { Ok(()) };
        begun.and(rest)
    }
}

impl Worker {
    /// Without a thread there is no early write-back, and nothing is wrong.
    fn start(filesystem: &Arc<OwnedFd>) -> Option<Self> {
        let filesystem = Arc::clone(filesystem);
        let (wake, woken) = sync_channel::<()>(1);
        let flush = move || {
            let mut outcome = Ok(());
            while woken.recv().is_ok() {
                outcome = outcome.and(fs::syncfs(&*filesystem));
            }
            outcome
        };
        let thread = Builder::new().name("layer-flush".into()).spawn(flush).ok()?;
        Some(Self { wake, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_count_as_whole_pages() {
        let folder = tempfile::tempdir().unwrap();
        let mut write_back = WriteBack::new(&Root::open(folder.path()).unwrap(), 10 * PAGE_BYTES).unwrap();
        for size_bytes in [0, 1, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1] {
            write_back.add_rest_of_page(size_bytes);
            write_back.add(size_bytes);
        }
        assert_eq!(write_back.pending_bytes, 5 * PAGE_BYTES);
        assert!(write_back.worker.is_none());
        for _ in 0..5 {
            write_back.add_rest_of_page(1);
            write_back.add(1);
        }
        assert!(write_back.worker.is_some(), "ten pages are enough");
        write_back.finish(false).unwrap();
    }
}
