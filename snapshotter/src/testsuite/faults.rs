//! The fault sweep of a [`Driver`]: every durable operation fails once, and the power goes before each; then it is
//! opened again, and what was acknowledged has to be there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_disk::Disk;
use corten_disk::testing::{Fault, Script, Unsynced};
use corten_filter::Filters;
use corten_types::{ErrorKind, Labels, Mount, Result};

use crate::manifest::{Entry, Reader, RecordTrees, checksum, verify};
use crate::{Driver, Kind, LocalSnapshotter, SnapshotKeeper, SnapshotReader, SnapshotWriter};

/// Fewer operations than this would prove nothing.
const FEWEST_OPERATIONS: usize = 20;

/// What a snapshot must hold: names of files, whose bytes are the same as their names.
type Files = Vec<String>;

/// What callers were told.
#[derive(Clone, Debug, Default)]
struct Ledger {
    /// Acknowledged and not given up since.
    there: BTreeMap<String, (Kind, Files)>,
    /// Acknowledged as removed or renamed.
    gone: Vec<String>,
    /// Begun and not answered with success: it is whole or absent.
    in_doubt: Vec<String>,
}

/// Fails every operation of a scenario once, each way.
///
/// # Panics
/// If something that was acknowledged is not so afterwards, or something is there that nobody asked for.
pub fn every_operation_fails_once<D: Driver>(options: impl Fn() -> D::Options) {
    for fault in [Fault::Io, Fault::Full] {
        for number in 0..operation_count::<D>(&options) {
            let folder = scratch();
            let script = Script::fails_at(folder.path(), number, fault);
            let mut ledger = Ledger::default();
            // Whether anybody is told depends on the operation; what was told has to be so.
            let _ = run::<D>(folder.path(), options(), script.disk(), &mut ledger);
            assert!(script.has_fired(), "operation {number} was not reached");
            let what = format!("{fault:?} at {number}, {:?}", script.log().last());
            check::<D>(folder.path(), options(), &ledger, &what);
        }
    }
}

/// Cuts the power before every operation of a scenario, with several states of what was not synced.
///
/// # Panics
/// As [`every_operation_fails_once`].
pub fn the_power_goes_before_every_operation<D: Driver>(options: impl Fn() -> D::Options) {
    for number in 0..=operation_count::<D>(&options) {
        let folder = scratch();
        let script = Script::cuts_power_at(folder.path(), number);
        let mut ledger = Ledger::default();
        let _ = run::<D>(folder.path(), options(), script.disk(), &mut ledger);
        for unsynced in Unsynced::ALL {
            let after = scratch();
            script.after_power_loss(unsynced, after.path()).expect("the state can be laid out");
            let what = format!("power cut at {number}, {unsynced:?}, {:?}", script.log().last());
            check::<D>(after.path(), options(), &ledger, &what);
        }
    }
}

/// A folder in memory, if there is one: the script says what survives, so waiting for a real disk proves nothing.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("the test can make a folder")
}

fn operation_count<D: Driver>(options: &impl Fn() -> D::Options) -> usize {
    let folder = scratch();
    let script = Script::never_fails(folder.path());
    let mut ledger = Ledger::default();
    run::<D>(folder.path(), options(), script.disk(), &mut ledger).expect("nothing fails");
    assert!(has_manifest::<D>(folder.path(), options()), "a layer that went well has a manifest");
    assert!(ledger.in_doubt.is_empty() && !ledger.there.is_empty() && !ledger.gone.is_empty(), "{ledger:?}");
    check::<D>(folder.path(), options(), &ledger, "without a fault");
    let count = script.operation_count();
    assert!(count >= FEWEST_OPERATIONS, "{count} operations prove nothing");
    count
}

fn has_manifest<D: Driver>(root: &Path, options: D::Options) -> bool {
    runtime().block_on(async {
        let snapshots = LocalSnapshotter::<D>::open(root, options).expect("it opens");
        snapshots.tree("a").await.expect("it was committed").manifest.is_some()
    })
}

fn run<D: Driver>(root: &Path, options: D::Options, disk: Disk, ledger: &mut Ledger) -> Result<()> {
    let runtime = runtime();
    runtime.block_on(async {
        let snapshots = LocalSnapshotter::<D>::open_on(root, options, disk)?;
        let result = scenario(&snapshots, ledger).await;
        let closed = snapshots.close().await;
        result.and(closed)
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the test can start a runtime")
}

async fn scenario<D: Driver>(snapshots: &LocalSnapshotter<D>, ledger: &mut Ledger) -> Result<()> {
    ledger.prepare(snapshots, "a-active", "").await?;
    ledger.write(snapshots, "a-active", "first").await?;
    ledger.commit(snapshots, "a", "a-active").await?;
    ledger.prepare(snapshots, "b-active", "a").await?;
    ledger.write(snapshots, "b-active", "second").await?;
    ledger.commit(snapshots, "b", "b-active").await?;
    ledger.view(snapshots, "look", "b").await?;
    ledger.prepare(snapshots, "doomed", "b").await?;
    ledger.remove(snapshots, "doomed").await?;
    ledger.remove(snapshots, "look").await?;
    match snapshots.cleanup().await {
        Err(error) if error.kind() != ErrorKind::Unimplemented => return Err(error),
        _ => {}
    }
    ledger.remove(snapshots, "b").await?;
    ledger.prepare(snapshots, "still-active", "a").await
}

impl Ledger {
    async fn prepare<D: Driver>(
        &mut self,
        snapshots: &LocalSnapshotter<D>,
        key: &str,
        parent: &str,
    ) -> Result<()> {
        self.begin(key);
        snapshots.prepare(key, parent, Labels::new()).await?;
        self.made(key, parent, Kind::Active);
        Ok(())
    }

    async fn view<D: Driver>(
        &mut self,
        snapshots: &LocalSnapshotter<D>,
        key: &str,
        parent: &str,
    ) -> Result<()> {
        self.begin(key);
        snapshots.view(key, parent, Labels::new()).await?;
        self.made(key, parent, Kind::View);
        Ok(())
    }

    /// Not synced by anybody: only a commit promises that it stays.
    #[expect(
        clippy::disallowed_methods,
        reason = "a program that writes into a snapshot does not go through the disk"
    )]
    async fn write<D: Driver>(
        &mut self,
        snapshots: &LocalSnapshotter<D>,
        key: &str,
        name: &str,
    ) -> Result<()> {
        let folder = writable(&snapshots.mounts(key).await?);
        // Like a layer that is unpacked; without a manifest it is as good.
        let recorder = snapshots.record(&folder).ok().flatten();
        let _ = std::fs::write(folder.join(name), name);
        if let Some(mut recorder) = recorder {
            let entry = Entry::File { size_bytes: name.len() as u64, checksum: checksum(0, name.as_bytes()) };
            recorder.put(name.as_bytes(), entry);
            let _ = recorder.finish();
        }
        Ok(())
    }

    async fn commit<D: Driver>(
        &mut self,
        snapshots: &LocalSnapshotter<D>,
        name: &str,
        key: &str,
    ) -> Result<()> {
        let parent = snapshots.stat(key).await?.parent;
        let own = if name == "a" { "first" } else { "second" };
        let mut files = self.there.get(&parent).map(|(_, files)| files.clone()).unwrap_or_default();
        files.push(own.to_owned());
        self.there.remove(key);
        self.begin(key);
        self.begin(name);
        snapshots.commit(name, key, Labels::new(), None).await?;
        self.in_doubt.retain(|doubted| doubted != key && doubted != name);
        self.gone.push(key.to_owned());
        self.there.insert(name.to_owned(), (Kind::Committed, files));
        Ok(())
    }

    async fn remove<D: Driver>(&mut self, snapshots: &LocalSnapshotter<D>, key: &str) -> Result<()> {
        self.there.remove(key);
        self.begin(key);
        snapshots.remove(key).await?;
        self.in_doubt.retain(|doubted| doubted != key);
        self.gone.push(key.to_owned());
        Ok(())
    }

    fn begin(&mut self, key: &str) {
        self.in_doubt.push(key.to_owned());
    }

    fn made(&mut self, key: &str, parent: &str, kind: Kind) {
        self.in_doubt.retain(|doubted| doubted != key);
        let files = self.there.get(parent).map(|(_, files)| files.clone()).unwrap_or_default();
        self.there.insert(key.to_owned(), (kind, files));
    }
}

/// Opens what is left and compares it with what was told.
fn check<D: Driver>(root: &Path, options: D::Options, ledger: &Ledger, what: &str) {
    runtime().block_on(async {
        let snapshots = match LocalSnapshotter::<D>::open(root, options) {
            Ok(snapshots) => snapshots,
            Err(error) => panic!("{what}: it does not open: {error:?}"),
        };
        let report = snapshots.report();
        assert_eq!(report.quarantine, None, "{what}");
        assert!(report.missing.is_empty(), "{what}: files are gone: {:?}", report.missing);
        for (key, (kind, files)) in &ledger.there {
            let info =
                snapshots.stat(key).await.unwrap_or_else(|error| panic!("{what}: {key} is gone: {error:?}"));
            assert_eq!(info.kind, *kind, "{what}: {key}");
            check_files(&snapshots, key, *kind, files, what).await;
        }
        for key in &ledger.gone {
            let told = snapshots.stat(key).await.map_err(|error| error.kind());
            assert_eq!(told, Err(ErrorKind::NotFound), "{what}: {key}");
        }
        let listed = snapshots.list(&Filters::all(), None, 100).await.expect("snapshots can be listed");
        for info in &listed {
            let known = ledger.there.contains_key(&info.name) || ledger.in_doubt.contains(&info.name);
            assert!(known, "{what}: nobody made {}", info.name);
        }
        check_goes_on(&snapshots, &listed.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), what)
            .await;
    });
}

async fn check_files<D: Driver>(
    snapshots: &LocalSnapshotter<D>,
    key: &str,
    kind: Kind,
    files: &Files,
    what: &str,
) {
    let folders = if kind == Kind::Committed {
        let look = format!("{key}-look");
        let mounts = snapshots.view(&look, key, Labels::new()).await;
        let mounts = mounts.unwrap_or_else(|error| panic!("{what}: {key} is no parent: {error:?}"));
        snapshots.remove(&look).await.expect("a view can be removed");
        folders(&mounts)
    } else {
        folders(&snapshots.mounts(key).await.unwrap_or_else(|error| panic!("{what}: {key}: {error:?}")))
    };
    for folder in &folders {
        assert!(folder.is_dir(), "{what}: {key} lacks {}", folder.display());
    }
    if kind == Kind::Committed {
        check_manifest(snapshots, key, what).await;
    }
    for name in files {
        let found = folders.iter().find_map(|folder| std::fs::read_to_string(folder.join(name)).ok());
        assert_eq!(found.as_ref(), Some(name), "{what}: a file of {key}");
    }
}

/// A manifest that a row tells of is there, and true.
async fn check_manifest<D: Driver>(snapshots: &LocalSnapshotter<D>, key: &str, what: &str) {
    let tree = snapshots.tree(key).await.unwrap_or_else(|error| panic!("{what}: {key}: {error:?}"));
    let Some(manifest) = tree.manifest else { return };
    let reader = Reader::open(&manifest.path);
    let reader = reader.unwrap_or_else(|error| panic!("{what}: the manifest of {key}: {error:?}"));
    assert_eq!(reader.seal().checksum, manifest.checksum, "{what}: {key}");
    let verified = verify(&manifest.path, &tree.path, &mut |finding| panic!("{what}: {key}: {finding}"));
    assert!(verified.is_ok_and(|verified| verified.is_complete), "{what}: {key}");
}

/// Nothing is in the way of a new snapshot, and everything can be removed, folders included.
async fn check_goes_on<D: Driver>(snapshots: &LocalSnapshotter<D>, listed: &[&str], what: &str) {
    snapshots
        .prepare("new", "", Labels::new())
        .await
        .unwrap_or_else(|error| panic!("{what}: nothing can be made any more: {error:?}"));
    let mut left: Vec<&str> = listed.iter().copied().chain(["new"]).collect();
    for _ in 0..listed.len() + 1 {
        let mut stay = Vec::new();
        for key in left {
            if snapshots.remove(key).await.is_err() {
                stay.push(key);
            }
        }
        left = stay;
    }
    assert!(left.is_empty(), "{what}: {left:?} cannot be removed");
    let _ = snapshots.cleanup().await;
    let folders = std::fs::read_dir(snapshots.root().join("snapshots")).expect("it can be listed").count();
    assert_eq!(folders, 0, "{what}: folders are left");
}

/// The folder of an active snapshot that takes what is written.
fn writable(mounts: &[Mount]) -> PathBuf {
    folders(mounts).swap_remove(0)
}

/// The folders that the mounts show, the uppermost first.
fn folders(mounts: &[Mount]) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for mount in mounts {
        if mount.kind == "bind" {
            folders.push(PathBuf::from(&mount.source));
        }
        let values = |key: &str| {
            mount.options.iter().filter_map(move |option| option.strip_prefix(key)).collect::<Vec<_>>()
        };
        folders.extend(values("upperdir=").into_iter().map(PathBuf::from));
        for lower in values("lowerdir=") {
            folders.extend(lower.split(':').map(PathBuf::from));
        }
    }
    folders
}
