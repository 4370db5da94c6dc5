//! Gives freed memory back to the system.
//!
//! The allocator keeps what large requests freed, in every thread's arena. Nothing here has much to do with it when the daemon is
//! idle, so it is asked to give it back after each such request, and after each collection.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

/// How long to wait after a large request: its last buffers go a little later, and requests often come in rows.
const PAUSE: Duration = Duration::from_millis(500);

/// Gives memory back whenever it is told that there may be some. It never ends.
pub(crate) async fn give_back_when_told(told: Arc<Notify>) {
    loop {
        told.notified().await;
        tokio::time::sleep(PAUSE).await;
        // It walks through every arena, which takes some milliseconds and their locks.
        if tokio::task::spawn_blocking(give_back).await.is_err() {
            return;
        }
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library has no safe way to say this")]
fn give_back() {
    // SAFETY: it may be called at any time, from any thread, and takes no pointers. Whether it found something is no matter.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other allocators give memory back by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}
