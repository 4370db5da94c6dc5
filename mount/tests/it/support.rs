//! A mount namespace for one test.

use std::path::{Path, PathBuf};

use corten_types::Mount;

/// Whether a test that needs root has to be passed over.
pub(crate) fn needs_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    assert!(std::env::var_os("CORTEN_TEST_ROOT").is_none(), "CORTEN_TEST_ROOT is set, but this is not root");
    println!("skipped: needs root");
    true
}

/// Runs `test` with an empty tmpfs, in a thread with a mount namespace of its own: nothing it mounts outlives it.
pub(crate) fn in_own_namespace(test: impl FnOnce(&Path) + Send + 'static) {
    if needs_root() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().to_owned();
    let thread = std::thread::spawn(move || {
        let flags = rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS;
        // SAFETY: only this thread gets a namespace and a working folder of its own, and it ends with the test.
        unsafe { rustix::thread::unshare_unsafe(flags) }.unwrap();
        corten_mount::mount(&described("", "", &["rprivate", "remount"]), Path::new("/")).unwrap();
        corten_mount::mount(&described("tmpfs", "tmpfs", &["mode=755"]), &folder).unwrap();
        test(&folder);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
    let left = std::fs::read_dir(outside.path()).unwrap().count();
    assert_eq!(left, 0, "a mount or a file leaked out of the namespace");
}

pub(crate) fn described(kind: &str, source: impl AsRef<Path>, options: &[&str]) -> Mount {
    Mount {
        kind: kind.to_owned(),
        source: source.as_ref().to_str().unwrap().to_owned(),
        target: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

/// A new folder with one file in it that is called like the folder.
pub(crate) fn folder_with_file(parent: &Path, name: &str) -> PathBuf {
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    write(&folder.join(name), name);
    folder
}

#[expect(clippy::disallowed_methods, reason = "a test's file need not survive")]
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// The mounts at and below `folder`.
pub(crate) fn count_below(folder: &Path) -> usize {
    corten_mount::mounts_below(folder).unwrap().len()
}
