//! What a case works with: a snapshotter, a place to mount, and calls that block.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use corten_filter::Filters;
use corten_mount::UnmountFlags;
use corten_types::{ErrorKind, Labels, Mount, Result};
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;
use tokio::runtime::Runtime;

use super::Subject;
use crate::{SnapshotInfo, Snapshotter};

/// A label that keeps snapshots from a collector, where there is one.
const KEPT: (&str, &str) = ("containerd.io/gc.root", "testsuite");

pub(super) struct World {
    runtime: Runtime,
    snapshots: Box<dyn Snapshotter>,
    work: PathBuf,
    next: AtomicU64,
}

impl World {
    /// Runs `case` in a mount namespace of its own, with an empty snapshotter.
    pub(super) fn enter(subject: &dyn Subject, case: impl FnOnce(&Self)) {
        // SAFETY: only this thread, and those that it starts, get a namespace and working folder of their own, and it
        // ends with the case.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
            .expect("root may have a mount namespace");
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .expect("root may make its mounts private");
        // Modes are part of what is checked; the mask is this thread's own now.
        rustix::process::umask(rustix::fs::Mode::empty());
        let folder = tempfile::tempdir().expect("the test can make a folder");
        let (root, work) = (folder.path().join("root"), folder.path().join("work"));
        for path in [&root, &work] {
            std::fs::create_dir(path).expect("the test can make a folder");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("the test can start a runtime");
        let snapshots = runtime.block_on(subject.open(&root)).expect("the snapshotter opens");
        let world = Self { runtime, snapshots, work, next: AtomicU64::new(0) };
        case(&world);
        let Self { runtime, snapshots, .. } = world;
        runtime.block_on(async move { drop(snapshots) });
    }

    /// An empty folder.
    pub(super) fn folder(&self) -> PathBuf {
        let path = self.work.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&path).expect("the test can make a folder");
        path
    }

    /// Mounts, does `work` in there, unmounts.
    pub(super) fn mounted<T>(&self, mounts: &[Mount], work: impl FnOnce(&Path) -> T) -> T {
        let target = self.folder();
        assert!(!mounts.is_empty(), "there is nothing to mount");
        corten_mount::mount_all(mounts, &target).expect("the mounts of a snapshot can be mounted");
        let result = work(&target);
        corten_mount::unmount_mounts(mounts, &target, UnmountFlags::NONE).expect("it can be unmounted");
        result
    }

    pub(super) fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        self.runtime.block_on(self.snapshots.stat(key))
    }

    pub(super) fn try_prepare(&self, key: &str, parent: &str) -> Result<Vec<Mount>> {
        self.runtime.block_on(self.snapshots.prepare(key, parent, kept(&[])))
    }

    pub(super) fn prepare(&self, key: &str, parent: &str) -> Vec<Mount> {
        self.try_prepare(key, parent).expect("a snapshot can be prepared")
    }

    pub(super) fn prepare_labelled(&self, key: &str, parent: &str, labels: &[(&str, &str)]) -> Vec<Mount> {
        self.runtime
            .block_on(self.snapshots.prepare(key, parent, kept(labels)))
            .expect("a snapshot can be prepared")
    }

    pub(super) fn try_view(&self, key: &str, parent: &str) -> Result<Vec<Mount>> {
        self.runtime.block_on(self.snapshots.view(key, parent, kept(&[])))
    }

    pub(super) fn view(&self, key: &str, parent: &str) -> Vec<Mount> {
        self.try_view(key, parent).expect("a view can be made")
    }

    pub(super) fn try_commit(&self, name: &str, key: &str, parent: Option<&str>) -> Result<()> {
        self.runtime.block_on(self.snapshots.commit(name, key, kept(&[]), parent))
    }

    pub(super) fn commit(&self, name: &str, key: &str) {
        self.try_commit(name, key, None).expect("an active snapshot can be committed");
    }

    pub(super) fn commit_labelled(&self, name: &str, key: &str, labels: &[(&str, &str)]) {
        self.runtime
            .block_on(self.snapshots.commit(name, key, kept(labels), None))
            .expect("an active snapshot can be committed");
    }

    /// A committed snapshot with what `fill` puts into it.
    pub(super) fn layer(&self, name: &str, parent: &str, fill: impl FnOnce(&Path)) {
        let key = format!("{name}-active");
        let mounts = self.prepare(&key, parent);
        self.mounted(&mounts, fill);
        self.commit(name, &key);
    }

    pub(super) fn remove(&self, key: &str) -> Result<()> {
        self.runtime.block_on(self.snapshots.remove(key))
    }

    pub(super) fn remove_all(&self, keys: &[&str]) -> Vec<Result<()>> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        self.runtime.block_on(self.snapshots.remove_all(&keys))
    }

    pub(super) fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.runtime.block_on(self.snapshots.mounts(key))
    }

    /// Any other call.
    pub(super) fn call<'a, T>(
        &'a self,
        call: impl FnOnce(&'a dyn Snapshotter) -> CallFuture<'a, T>,
    ) -> Result<T> {
        self.runtime.block_on(call(self.snapshots.as_ref()))
    }

    /// The names that `filters` choose, in the order of the answer.
    pub(super) fn names(&self, filters: &[&str], after: Option<&str>, limit: usize) -> Vec<String> {
        let filters = Filters::parse(filters).expect("the filter is well formed");
        let found = self
            .runtime
            .block_on(self.snapshots.list(&filters, after, limit))
            .expect("snapshots can be listed");
        found.into_iter().map(|info| info.name).collect()
    }
}

pub(super) type CallFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Labels, and the one that keeps from a collector.
pub(super) fn kept(labels: &[(&str, &str)]) -> Labels {
    std::iter::once(&KEPT)
        .chain(labels)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[track_caller]
pub(super) fn assert_refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("expected {kind:?}, but it worked: {value:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error:?}"),
    }
}
