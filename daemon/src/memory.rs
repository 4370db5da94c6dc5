//! Keeps the daemon small when it is idle.
//!
//! The allocator keeps what large requests freed, in every thread's arena, and the system keeps every page of the program mapped that
//! ran once: starting alone touches two thirds of it. The databases keep pages for being read again. Nothing here has much to do with any of
//! it while the daemon is idle, so all is given back when it has started, after each large request and after each collection. Pages of the program stay in the
//! system's cache, and are mapped again, many at once, when they are needed.

use std::{sync::Arc, time::Duration};

use corten_metadata::Metadata;
use corten_snapshotter::Inspector;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// For how long no large request must have ended: they often come in rows, and what is given back is wanted by the next.
const PAUSE: Duration = Duration::from_millis(500);

/// After so long it is given back although there was no such pause.
const LONGEST_ROW: Duration = Duration::from_secs(10);

/// Gives memory back now, and whenever it is told that there may be some. It never ends.
pub(crate) async fn give_back_when_told(told: Arc<Notify>, metadata: Metadata, snapshotters: Vec<Inspector>) {
    loop {
        // A database that does not answer has other troubles, which others report.
        let _ = metadata.release_memory().await;
        let snapshotters = snapshotters.clone();
        // It walks through every arena and every mapping, which takes some milliseconds.
        let given = tokio::task::spawn_blocking(move || {
            for snapshotter in snapshotters {
                let _ = snapshotter.release_memory();
            }
            allocator::give_back();
            program::forget();
        });
        if given.await.is_err() {
            return;
        }
        told.notified().await;
        wait_for_pause(&told).await;
    }
}

async fn wait_for_pause(told: &Notify) {
    let began_at = Instant::now();
    while timeout(PAUSE, told.notified()).await.is_ok() && began_at.elapsed() < LONGEST_ROW {}
}

/// Tells the allocator to keep little. It must be called before there are threads.
pub fn begin_small() {
    allocator::limit();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no safe way to say this")]
mod allocator {
    use std::{ffi::c_int, thread::available_parallelism};

    /// Each arena keeps what its threads freed. The library would make up to eight for each processor.
    const ARENAS: usize = 4;

    /// So much may be free at the end of an arena before it is given back, in bytes: what the buffers of one large request take.
    /// With less, an upload gives back and gets anew nearly every page that it arrives in. After it, all is given back.
    const FREE_AT_END_BYTES: c_int = 8 << 20;

    /// From this size on memory comes from the system and goes back to it at once, in bytes.
    const MAPPED_BYTES: c_int = 1 << 20;

    pub(super) fn limit() {
        let arenas = available_parallelism().map_or(1, usize::from).min(ARENAS);
        let arenas = c_int::try_from(arenas).expect("a small number");
        // SAFETY: the caller says that there are no other threads; the call takes no pointers. What it refuses stays as it was.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
            libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_AT_END_BYTES);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        }
    }

    pub(super) fn give_back() {
        // SAFETY: it may be called at any time, from any thread, and takes no pointers. Whether it found something is no matter.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

/// Other allocators give memory back by themselves.
#[cfg(not(target_env = "gnu"))]
mod allocator {
    pub(super) fn limit() {}

    pub(super) fn give_back() {}
}

mod program {
    use std::fs;

    /// Unmaps what is mapped of the program and its libraries, as far as it is exactly what their files hold.
    pub(super) fn forget() {
        // A hint: without it the daemon is only larger.
        let Ok(text) = fs::read_to_string("/proc/self/smaps") else { return };
        for (start, length) in unchanged(&text) {
            give_up(start, length);
        }
    }

    #[expect(unsafe_code, reason = "there is no safe way to say this of code")]
    fn give_up(start: usize, length: usize) {
        // SAFETY: the range is a mapping of a file that nobody may write to and of which no page was changed: whoever touches
        // it afterwards, on any thread, sees the same bytes again, read from the file. Nothing unmaps the program meanwhile.
        let _ = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }

    /// The private mappings of files that are not writable and have no page of their own: addresses and lengths in bytes.
    ///
    /// A page of its own is one that differs from the file: relocated tables, and where somebody who debugs has set a probe.
    pub(super) fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut current = None;
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if let Some((start, end)) = first.split_once('-') {
                let path = words.nth(3).unwrap_or_default();
                let is_file = matches!(second, "r--p" | "r-xp") && path.starts_with('/');
                let number = |text| usize::from_str_radix(text, 16).ok();
                current = number(start).zip(number(end)).filter(|(start, end)| is_file && start < end);
            } else if first == "Anonymous:"
                && second == "0"
                && let Some((start, end)) = current.take()
            {
                found.push((start, end - start));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
