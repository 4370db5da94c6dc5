//! The lock on a root.

use corten_disk::{LockError, RootLock};

#[test]
fn a_second_lock_on_a_root_is_told_who_holds_it() {
    let root = tempfile::tempdir().unwrap();
    let first = RootLock::acquire(root.path(), "cortend 1.2").unwrap();
    let refused = RootLock::acquire(root.path(), "another").unwrap_err();
    assert!(matches!(refused, LockError::Held { .. }));
    let sentence = refused.to_string();
    assert!(sentence.contains("in use by cortend 1.2"), "{sentence}");
    assert!(sentence.contains(&format!("(process {})", std::process::id())), "{sentence}");
    drop(first);
    RootLock::acquire(root.path(), "another").unwrap();
}

#[test]
fn a_root_that_is_missing_cannot_be_locked() {
    let root = tempfile::tempdir().unwrap();
    let refused = RootLock::acquire(&root.path().join("missing"), "cortend").unwrap_err();
    assert!(matches!(refused, LockError::Io { .. }), "{refused:?}");
}

#[test]
fn a_lock_file_with_garbage_is_taken_and_overwritten() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join(RootLock::FILE_NAME), [0xff; 5000]).unwrap();
    let held = RootLock::acquire(root.path(), "cortend").unwrap();
    let sentence = RootLock::acquire(root.path(), "another").unwrap_err().to_string();
    assert!(sentence.contains("cortend"), "{sentence}");
    drop(held);
}
