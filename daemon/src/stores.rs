//! The concrete stores, each opened where its settings say.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use corten_content_store::{ContentStore, LocalStore};
use corten_diff::{DifferOptions, StreamProcessor, WalkingDiffer, unpack::TreeObserver};
use corten_disk::Disk;
use corten_metadata::{Collectible, ContentSharing, EventSink, Health, Metadata};
use corten_snapshotter::{Driver, Inspector, LocalSnapshotter, OpenReport, Snapshotter};
use corten_snapshotter_native::NativeSnapshotter;
use corten_snapshotter_overlay::OverlaySnapshotter;
use tokio::sync::Notify;

use crate::{
    config::{CollectionSettings, OverlaySettings},
    manifests::Manifests,
    plugins::{Plugins, local},
};

/// Where blobs are, below the root.
const CONTENT_FOLDER: &str = "io.containerd.content.v1.content";

/// The snapshotters that opened, and the folders that their trees are in.
#[derive(Default)]
pub(crate) struct Trees {
    snapshotters: BTreeMap<String, Arc<dyn Snapshotter>>,
    folders: Vec<PathBuf>,
    inspectors: BTreeMap<String, Inspector>,
    manifests: Manifests,
}

impl Trees {
    /// Looks into the snapshotters from below.
    pub(crate) fn inspectors(&self) -> BTreeMap<String, Inspector> {
        self.inspectors.clone()
    }

    fn add<D: Driver>(&mut self, name: &str, folder: PathBuf, snapshotter: LocalSnapshotter<D>) {
        self.inspectors.insert(name.to_owned(), snapshotter.inspector());
        self.manifests.add(Arc::new(snapshotter.clone()));
        self.snapshotters.insert(name.to_owned(), Arc::new(snapshotter));
        self.folders.push(folder);
    }

    /// Who keeps what layers put into these trees.
    pub(crate) fn manifests(&self) -> Manifests {
        self.manifests.clone()
    }
}

/// Where blobs are.
pub(crate) fn content_folder(root: &Path) -> PathBuf {
    root.join(CONTENT_FOLDER)
}

/// Where a snapshotter is, unless it is configured.
pub(crate) fn snapshotter_folder(root: &Path, name: &str) -> PathBuf {
    root.join(format!("io.containerd.snapshotter.v1.{name}"))
}

/// Where the metadata database is.
pub(crate) fn metadata_path(root: &Path) -> PathBuf {
    root.join("io.containerd.metadata.v1.bolt/meta.db")
}

/// Where the bundles of tasks are.
pub(crate) fn bundles(state: &Path) -> PathBuf {
    state.join("io.containerd.runtime.v2.task")
}

pub(crate) fn content(root: &Path, disk: &Disk, plugins: &mut Plugins) -> anyhow::Result<LocalStore> {
    let folder = content_folder(root);
    let store = LocalStore::open(&folder, disk.clone()).context("open the content store")?;
    plugins.add(local("io.containerd.content.v1", "content", &[("root", text(&folder))], Vec::new()));
    Ok(store)
}

/// Removes what a crash left of ingests that no listing has, and so nobody else finds. Not in quarantine, where
/// everything stays; and not worth failing for.
pub(crate) fn remove_unreadable_ingests(content: &LocalStore, metadata: &Metadata) {
    if metadata.health() != Health::Healthy {
        return;
    }
    match content.remove_unreadable_ingests() {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "ingests that a crash left without a name are removed"),
        Err(error) => tracing::warn!(%error, "ingests that a crash left without a name stay"),
    }
}

/// Opens the snapshotters that the machine can have; one that fails is listed with its reason.
pub(crate) fn snapshotters(
    root: &Path,
    overlay: &OverlaySettings,
    native_root: Option<&Path>,
    disk: &Disk,
    plugins: &mut Plugins,
) -> Trees {
    let kind = "io.containerd.snapshotter.v1";
    let mut trees = Trees::default();
    if plugins.wanted(kind, "overlayfs") {
        let OverlaySettings { root_path, upperdir_label, sync_remove, slow_chown, mount_options } =
            overlay.clone();
        let folder = root_path.unwrap_or_else(|| snapshotter_folder(root, "overlayfs"));
        let options =
            corten_snapshotter_overlay::Options { upperdir_label, sync_remove, slow_chown, mount_options };
        match OverlaySnapshotter::open_on(&folder, options, disk.clone()) {
            Ok(snapshotter) => {
                tell("overlayfs", snapshotter.report());
                plugins.add(local(kind, "overlayfs", &[("root", text(&folder))], snapshotter.capabilities()));
                trees.add("overlayfs", folder, snapshotter);
            }
            Err(error) => plugins.add_failed(local(kind, "overlayfs", &[], Vec::new()), &error),
        }
    }
    if plugins.wanted(kind, "native") {
        let folder = native_root.map_or_else(|| snapshotter_folder(root, "native"), Path::to_owned);
        match NativeSnapshotter::open_on(&folder, corten_snapshotter_native::Options::default(), disk.clone())
        {
            Ok(snapshotter) => {
                tell("native", snapshotter.report());
                plugins.add(local(kind, "native", &[("root", text(&folder))], snapshotter.capabilities()));
                trees.add("native", folder, snapshotter);
            }
            Err(error) => plugins.add_failed(local(kind, "native", &[], Vec::new()), &error),
        }
    }
    trees
}

/// What a snapshotter found at open is for the log: nobody asked for it.
fn tell(snapshotter: &str, report: &OpenReport) {
    if let Some(reason) = &report.quarantine {
        tracing::error!(snapshotter, %reason, "quarantine: no folder of a snapshot is removed");
    }
    if !report.missing.is_empty() {
        tracing::warn!(snapshotter, missing = ?report.missing, "snapshots whose files are gone");
    }
}

/// Opens the database over the stores and sets right what a crash left.
#[expect(clippy::too_many_arguments, reason = "everything that is stored meets here")]
pub(crate) async fn metadata(
    root: &Path,
    disk: &Disk,
    content: Arc<dyn ContentStore>,
    trees: Trees,
    mounts: Arc<dyn Collectible>,
    shared_content: bool,
    collection: &CollectionSettings,
    events: Arc<dyn EventSink>,
    memory_freed: Arc<Notify>,
    plugins: &mut Plugins,
) -> anyhow::Result<Metadata> {
    let path = metadata_path(root);
    let folder = path.parent().unwrap_or(root);
    disk.create_dir_all(folder, 0o711).with_context(|| format!("make the folder {}", folder.display()))?;
    let mut options = corten_metadata::Options::new(&path, content);
    options.folders = trees.folders;
    options.folders.push(content_folder(root));
    options.doubts = trees.inspectors.values().filter_map(Inspector::quarantine).collect();
    options.snapshotters = trees.snapshotters;
    options.collectibles.insert(crate::mounts::KIND.to_owned(), mounts);
    options.disk = disk.clone();
    options.content_sharing = if shared_content { ContentSharing::Shared } else { ContentSharing::Isolated };
    options.events = events;
    options.after_collection = Some(Arc::new(move || memory_freed.notify_one()));
    options.schedule = schedule(collection);
    let metadata = Metadata::open(options).await.context("open the metadata database")?;
    let policy = if shared_content { "shared" } else { "isolated" };
    let mut exports = vec![("policy", policy.to_owned()), ("path", text(&path))];
    if let Health::Quarantine { reason, .. } = metadata.health() {
        exports.push(("quarantine", reason));
    }
    plugins.add(local("io.containerd.metadata.v1", "bolt", &exports, Vec::new()));
    let exports = [
        ("PauseThreshold", collection.pause_threshold.to_string()),
        ("DeletionThreshold", collection.deletion_threshold.to_string()),
        ("MutationThreshold", collection.mutation_threshold.to_string()),
        ("ScheduleDelay", format!("{:?}", collection.schedule_delay)),
    ];
    plugins.add(local("io.containerd.gc.v1", "scheduler", &exports, Vec::new()));
    Ok(metadata)
}

fn schedule(collection: &CollectionSettings) -> corten_gc::Schedule {
    let CollectionSettings {
        pause_threshold,
        deletion_threshold,
        mutation_threshold,
        schedule_delay,
        startup_delay,
    } = collection.clone();
    corten_gc::Schedule {
        pause_threshold,
        deletion_threshold: u32::try_from(deletion_threshold).unwrap_or(u32::MAX),
        mutation_threshold: u32::try_from(mutation_threshold).unwrap_or(u32::MAX),
        schedule_delay,
        startup_delay,
    }
}

/// The layer engine, unless it is disabled.
pub(crate) fn differ(
    temporary: &Path,
    manifests: Manifests,
    processors: Vec<StreamProcessor>,
    plugins: &mut Plugins,
) -> Option<Arc<WalkingDiffer>> {
    let kind = "io.containerd.differ.v1";
    plugins.wanted(kind, "walking").then(|| {
        plugins.add(local(kind, "walking", &[], Vec::new()));
        let observer: Option<Arc<dyn TreeObserver>> = Some(Arc::new(manifests));
        let options = DifferOptions { observer, processors, ..DifferOptions::default() };
        Arc::new(WalkingDiffer::new(temporary, options))
    })
}

/// What shims get in their environment besides ours: optional programs first (row P03), then what the operator says.
pub(crate) fn shim_environment(
    opt: &Path,
    temp: Option<&Path>,
    configured: &[String],
) -> anyhow::Result<Vec<(String, String)>> {
    let mut environment = Vec::new();
    for (name, folder) in [("PATH", "bin"), ("LD_LIBRARY_PATH", "lib")] {
        let ours: Vec<PathBuf> =
            std::env::var_os(name).map(|value| std::env::split_paths(&value).collect()).unwrap_or_default();
        let paths = std::iter::once(opt.join(folder)).chain(ours);
        let joined =
            std::env::join_paths(paths).with_context(|| format!("put {} into {name}", opt.display()))?;
        environment.push((name.to_owned(), joined.to_string_lossy().into_owned()));
    }
    environment.extend(temp.map(|folder| ("TMPDIR".to_owned(), text(folder))));
    for entry in configured {
        let (name, value) = entry
            .split_once('=')
            .with_context(|| format!("the environment of shims has {entry:?}; write NAME=value"))?;
        environment.push((name.to_owned(), value.to_owned()));
    }
    Ok(environment)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
