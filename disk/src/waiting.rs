//! Threads that may wait for disks and locks.

use std::cell::Cell;

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread was said to be one that may block, by [`waiting_allowed`]. Code that would hand its work to such a thread
/// can do it at once then: a request of many steps that block is handed over once, and not once a step.
#[must_use]
pub fn may_wait() -> bool {
    MAY_WAIT.get()
}

/// Does `work` on this thread, which may block meanwhile: nobody else needs it.
pub fn waiting_allowed<T>(work: impl FnOnce() -> T) -> T {
    struct Restored(bool);
    impl Drop for Restored {
        fn drop(&mut self) {
            MAY_WAIT.set(self.0);
        }
    }
    let _restored = Restored(MAY_WAIT.replace(true));
    work()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::{may_wait, waiting_allowed};

    #[test]
    fn it_is_this_thread_and_only_for_the_time_of_the_work() {
        assert!(!may_wait());
        waiting_allowed(|| {
            assert!(may_wait());
            assert!(!std::thread::spawn(may_wait).join().unwrap());
            waiting_allowed(|| ());
            assert!(may_wait(), "the inner one gives back what it found");
        });
        assert!(!may_wait());
        assert!(catch_unwind(|| waiting_allowed(|| panic!("as the test wants"))).is_err());
        assert!(!may_wait());
    }
}
