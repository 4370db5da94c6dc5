//! What is in the folders of snapshots on overlayfs, and how they are mounted.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use corten_snapshotter::{Driver, Kind, Placement, Removal, Trees};
use corten_types::{Error, ErrorKind, Labels, Mount, Result};

use crate::mapping::{self, Owner};
use crate::probe;

/// The label that tells where the files of a snapshot are, if it is asked for (row O07).
pub const LABEL_UPPERDIR: &str = "containerd.io/snapshot/overlay.upperdir";

/// Permission bits of the files' folder and of overlayfs' own (rows O01 and DM66).
const UPPER_MODE: u32 = 0o755;
const WORK_MODE: u32 = 0o711;

/// How the snapshotter is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Tell the folder of the files as the label [`LABEL_UPPERDIR`] (row O07).
    pub upperdir_label: bool,
    /// Remove folders with the call that removes their snapshot, and not with the next cleanup (row O08).
    pub sync_remove: bool,
    /// Tell clients that they may copy whole layers to change owners (row O09).
    pub slow_chown: bool,
    /// More options for overlays; bind mounts do not get them (row O12).
    pub mount_options: Vec<String>,
}

/// Overlayfs below [`OverlaySnapshotter`](crate::OverlaySnapshotter).
#[derive(Clone, Debug)]
pub struct Overlay {
    options: Options,
    /// What every overlay gets after its folders.
    mount_options: Vec<String>,
    maps_ids: bool,
    in_user_namespace: bool,
}

impl Driver for Overlay {
    type Options = Options;

    fn open(trees: &Trees, options: Options) -> Result<Self> {
        probe::require_entry_types(trees.root())?;
        let in_user_namespace = probe::in_user_namespace();
        let mut mount_options = options.mount_options.clone();
        if !has_option(&mount_options, "userxattr") && in_user_namespace && probe::takes_user_xattr(trees) {
            mount_options.push("userxattr".to_owned());
        }
        // The last one wins in the kernel: a configured `index=on` must not be followed by ours.
        if !has_option(&mount_options, "index") && probe::knows_index() {
            mount_options.push("index=off".to_owned());
        }
        let maps_ids = !in_user_namespace && probe::maps_ids(trees);
        Ok(Self { options, mount_options, maps_ids, in_user_namespace })
    }

    fn capabilities(&self) -> Vec<String> {
        let mut capabilities = Vec::new();
        if self.maps_ids {
            capabilities.push("remap-ids".to_owned());
        }
        if !self.options.slow_chown {
            capabilities.push("only-remap-ids".to_owned());
        }
        // Layers that are unpacked without their parent hold whiteouts as devices, which cannot be made there.
        if !self.in_user_namespace {
            capabilities.push("rebase".to_owned());
        }
        capabilities
    }

    fn create(&self, trees: &Trees, placement: &Placement) -> Result<()> {
        let owner = owner_of_root(trees, placement)?;
        trees.create(placement.id, |draft| {
            let upper = draft.join("fs");
            trees.create_folder(&upper, UPPER_MODE)?;
            if placement.kind == Kind::Active {
                trees.create_folder(&draft.join("work"), WORK_MODE)?;
            }
            let Some(owner) = owner else { return Ok(()) };
            std::os::unix::fs::lchown(&upper, Some(owner.user), Some(owner.group))
                .map_err(|error| Error::io(format!("cannot give {} to its owner", upper.display()), error))
        })
    }

    /// Two empty folders that a power cut takes are made again at the next open, so nothing waits for the disk.
    fn is_durable_from_the_start(&self, _placement: &Placement) -> bool {
        false
    }

    fn mend(&self, trees: &Trees, placement: &Placement) -> Result<bool> {
        let folder = trees.folder(placement.id);
        let needs_work = placement.kind == Kind::Active && !folder.join("work").is_dir();
        if folder.join("fs").is_dir() {
            if needs_work {
                trees.create_folder(&folder.join("work"), WORK_MODE)?;
            }
            return Ok(true);
        }
        if folder.exists() {
            trees
                .disk()
                .remove_dir_all(&folder)
                .map_err(|error| Error::io(format!("cannot remove {}", folder.display()), error))?;
        }
        match self.create(trees, placement) {
            Ok(()) => Ok(true),
            // Its parent's files are gone, too.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_there(&self, trees: &Trees, id: u64) -> bool {
        upper(trees, id).is_dir()
    }

    fn mounts(&self, trees: &Trees, placement: &Placement) -> Vec<Mount> {
        let mut options = Vec::new();
        if self.maps_ids {
            for (word, label) in [("uidmap", mapping::LABEL_USERS), ("gidmap", mapping::LABEL_GROUPS)] {
                options.extend(placement.labels.get(label).map(|value| format!("{word}={value}")));
            }
        }
        // Rows O02 to O04; the order of options is what other programs compare.
        match (placement.kind, placement.parents.as_slice()) {
            (Kind::Active, []) => bind(&upper(trees, placement.id), options, "rw"),
            (_, []) => bind(&upper(trees, placement.id), options, "ro"),
            (Kind::Active, parents) => {
                let folder = trees.folder(placement.id);
                options.push(format!("workdir={}", folder.join("work").display()));
                options.push(format!("upperdir={}", folder.join("fs").display()));
                self.overlay(trees, parents, options)
            }
            (_, [parent]) => bind(&upper(trees, *parent), options, "ro"),
            (_, parents) => self.overlay(trees, parents, options),
        }
    }

    fn measured(&self, trees: &Trees, id: u64) -> PathBuf {
        upper(trees, id)
    }

    fn manifest(&self, trees: &Trees, id: u64) -> PathBuf {
        trees.folder(id).join("manifest")
    }

    fn rebases(&self) -> bool {
        true
    }

    fn removal(&self) -> Removal {
        if self.options.sync_remove { Removal::AtOnceOrOnCleanup } else { Removal::OnCleanup }
    }

    fn add_labels(&self, trees: &Trees, id: u64, labels: &mut Labels) {
        if self.options.upperdir_label {
            labels.insert(LABEL_UPPERDIR.to_owned(), upper(trees, id).display().to_string());
        }
    }
}

impl Overlay {
    fn overlay(&self, trees: &Trees, parents: &[u64], mut options: Vec<String>) -> Vec<Mount> {
        let lower: Vec<String> = parents.iter().map(|id| lower_name(&upper(trees, *id))).collect();
        options.push(format!("lowerdir={}", lower.join(":")));
        options.extend_from_slice(&self.mount_options);
        vec![Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options,
        }]
    }
}

fn upper(trees: &Trees, id: u64) -> PathBuf {
    trees.folder(id).join("fs")
}

/// In `lowerdir` a colon separates, so one in a name is escaped.
fn lower_name(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace(':', "\\:")
}

fn bind(source: &Path, mut options: Vec<String>, access: &str) -> Vec<Mount> {
    options.extend([access.to_owned(), "rbind".to_owned()]);
    vec![Mount {
        kind: "bind".to_owned(),
        source: source.display().to_string(),
        target: String::new(),
        options,
    }]
}

/// Who owns the root of a new snapshot: the container's root if ids are mapped, else whoever owns the parent's.
fn owner_of_root(trees: &Trees, placement: &Placement) -> Result<Option<Owner>> {
    if let Some(owner) = mapping::container_root(&placement.labels)? {
        return Ok(Some(owner));
    }
    let Some(parent) = placement.parents.first() else { return Ok(None) };
    let path = upper(trees, *parent);
    let found = path
        .metadata()
        .map_err(|error| Error::io(format!("cannot find the parent's files at {}", path.display()), error))?;
    Ok(Some(Owner { user: found.uid(), group: found.gid() }))
}

fn has_option(options: &[String], key: &str) -> bool {
    options.iter().any(|option| option.split('=').next() == Some(key))
}
