//! The folder in which mounts are made, a folder for each activation.
//!
//! `<number>/<n>` is a mount point, `<number>/<n>.json` says what is mounted there; the last mount has the smallest `n`
//! (`docs/formats/mounts.md`).

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use corten_disk::Disk;
use corten_mount::{UnmountFlags, mounts_below, unmount_recursive};
use corten_types::{Error, ErrorKind, Mount, Result};
use serde::{Deserialize, Serialize};

use crate::{
    handler::{Handler, Plain, built_in},
    plan::{Plan, Step, plan},
    record::{ActivateOptions, ActiveMount, Performed},
    roots::Roots,
};

/// What a workspace is opened with.
pub struct Options {
    /// Folders, absolute, in which `mkdir/` and `mkfs/` may make something, besides the workspace itself.
    pub roots: Vec<PathBuf>,
    /// What mounts types that the kernel does not know, by type. The default has `loop` and `erofs`.
    pub handlers: BTreeMap<String, Arc<dyn Handler>>,
    /// The disk that images are made on.
    pub disk: Disk,
}

impl Default for Options {
    fn default() -> Self {
        Self { roots: Vec::new(), handlers: built_in(), disk: Disk::new() }
    }
}

/// An activation that is in the workspace, whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// Whether everything that was mounted for it still is. Never so after a reboot.
    pub whole: bool,
}

/// Makes and ends the mounts of activations, which it knows by number. It blocks.
pub struct Workspace {
    folder: PathBuf,
    roots: Roots,
    handlers: BTreeMap<String, Arc<dyn Handler>>,
    disk: Disk,
    /// The numbers that somebody works on.
    busy: Mutex<HashSet<u64>>,
}

/// What a file beside a mount point says.
#[derive(Serialize, Deserialize)]
struct Note {
    r#type: String,
    source: PathBuf,
}

/// A number that nobody else may work on.
struct Claim<'a> {
    workspace: &'a Workspace,
    number: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.workspace.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

impl Workspace {
    /// Opens the workspace in `folder` (absolute; made if missing). Nothing is mounted or unmounted.
    ///
    /// # Errors
    /// By class of the system's error, if the folder or one of the roots cannot be opened.
    pub fn open(folder: &Path, options: Options) -> Result<Self> {
        let Options { mut roots, handlers, disk } = options;
        let cannot = |error| Error::io(format!("cannot open the workspace {}", folder.display()), error);
        disk.create_dir_all(folder, 0o700).map_err(cannot)?;
        // The mount table has the path without links.
        let folder = folder.canonicalize().map_err(cannot)?;
        roots.push(folder.clone());
        Ok(Self { roots: Roots::open(roots)?, folder, handlers, disk, busy: Mutex::default() })
    }

    /// What has to be done for `mounts`; `None` if the caller can mount them by itself.
    pub(crate) fn plan(&self, mounts: Vec<Mount>, options: &ActivateOptions) -> Result<Option<Plan>> {
        plan(mounts, options, &self.handlers)
    }

    /// Everything that is in the workspace.
    ///
    /// # Errors
    /// By class of the system's error, if the folder or the mount table cannot be read.
    pub fn found(&self) -> Result<Vec<Found>> {
        let points: HashSet<PathBuf> =
            mounts_below(&self.folder)?.into_iter().map(|entry| entry.mount_point).collect();
        let is_mount_point = |point: &Path| points.contains(point);
        let mut found = Vec::new();
        for name in names(&self.folder)? {
            let Some(number) = numbered(&name) else { continue };
            let whole = self.notes(&self.folder.join(&name))?.into_iter().all(|(point, note)| {
                note.is_some_and(|note| {
                    self.handler(&note.r#type).is_there(&note.source, &point, &is_mount_point)
                })
            });
            found.push(Found { number, whole });
        }
        Ok(found)
    }

    /// Unmounts all that belongs to the activation `number`, the last mount first, and removes its folder. What a crash
    /// left half done is removed too. Files in a folder that turns out not to be empty are never removed.
    ///
    /// # Errors
    /// `NotFound` if there is none. `Unavailable` if somebody uses a mount, or works on the activation; what could be
    /// unmounted is, and it can be tried again.
    pub fn remove(&self, number: u64) -> Result<()> {
        let _claim = self.claim(number)?;
        self.take_down(&self.folder.join(number.to_string()))
    }

    /// Mounts what is planned.
    ///
    /// # Errors
    /// Those of the transformations and mounts. Nothing stays mounted, if possible; [`remove`](Self::remove) tries again.
    pub(crate) fn perform(&self, number: u64, plan: Plan) -> Result<Performed> {
        let _claim = self.claim(number)?;
        let folder = self.folder.join(number.to_string());
        rustix::fs::mkdir(&folder, rustix::fs::Mode::RWXU)
            .map_err(|error| Error::io(format!("cannot make {}", folder.display()), error.into()))?;
        self.perform_in(&folder, plan).inspect_err(|_| {
            if let Err(error) = self.take_down(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "a failed activation could not be undone yet");
            }
        })
    }

    fn perform_in(&self, folder: &Path, plan: Plan) -> Result<Performed> {
        let Plan { steps, handled, temporary } = plan;
        let mut steps = steps.into_iter();
        let mut active: Vec<ActiveMount> = Vec::new();
        for (index, step) in steps.by_ref().take(handled).enumerate() {
            let handler = step.handler.clone();
            let mount = self.transformed(step, &active)?;
            let point = folder.join(point_name(handled - index, handled));
            note(&point, &mount)?;
            let handler: &dyn Handler = handler.as_deref().unwrap_or(&Plain);
            active.push(handler.mount(&mount, &point, &active)?);
        }
        let mut system = Vec::new();
        if let Some(step) = steps.next() {
            system.push(self.transformed(step, &active)?);
        }
        system.extend(steps.map(|step| step.mount));
        if temporary && let Some(last) = active.last() {
            system.push(Mount {
                kind: "bind".to_owned(),
                source: last.mount_point.clone(),
                target: String::new(),
                options: vec!["rbind".to_owned()],
            });
        }
        Ok(Performed { active, system })
    }

    fn transformed(&self, step: Step, earlier: &[ActiveMount]) -> Result<Mount> {
        let mut mount = step.mount;
        if !step.transforms.is_empty() {
            mount.kind = step.kind;
        }
        for transform in step.transforms {
            mount = transform.apply(mount, earlier, &self.roots, &self.disk)?;
        }
        Ok(mount)
    }

    fn handler(&self, kind: &str) -> &dyn Handler {
        self.handlers.get(kind).map_or(&Plain, |handler| handler.as_ref())
    }

    fn claim(&self, number: u64) -> Result<Claim<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.insert(number) {
            return Ok(Claim { workspace: self, number });
        }
        Err(Error::unavailable(format!("somebody works on the mounts of activation {number}")))
    }

    /// The mount points of an activation with their notes, the last mount first; `None` for a note that cannot be read.
    fn notes(&self, folder: &Path) -> Result<Vec<(PathBuf, Option<Note>)>> {
        let mut found: Vec<(u64, PathBuf, Option<Note>)> = Vec::new();
        for name in names(folder)? {
            let Some(point) = name.strip_suffix(NOTE) else { continue };
            let Some(order) = numbered(point) else { continue };
            let note = std::fs::read(folder.join(&name)).ok();
            let note = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            found.push((order, folder.join(point), note));
        }
        found.sort_by_key(|(order, ..)| *order);
        Ok(found.into_iter().map(|(_, point, note)| (point, note)).collect())
    }

    fn take_down(&self, folder: &Path) -> Result<()> {
        let mut result = Ok(());
        for (point, note) in self.notes(folder)? {
            let undone = match &note {
                Some(note) => self.handler(&note.r#type).unmount(&note.source, &point),
                None => Plain.unmount(Path::new(""), &point),
            };
            result = result.and(undone);
        }
        result.and(unmount_recursive(folder, UnmountFlags::NONE))?;
        // Nothing is mounted here any more. Folders go only if they are empty, so that no mount that came meanwhile
        // loses its files.
        for name in names(folder)? {
            let path = folder.join(&name);
            let is_folder = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            let removed = if is_folder { rustix::fs::rmdir(&path) } else { rustix::fs::unlink(&path) };
            removed.map_err(|error| Error::io(format!("cannot remove {}", path.display()), error.into()))?;
        }
        rustix::fs::rmdir(folder)
            .map_err(|error| Error::io(format!("cannot remove {}", folder.display()), error.into()))
    }
}

const NOTE: &str = ".json";

/// The last mount of `count` is called 1, as it goes first; names of many mounts have the same length.
fn point_name(order: usize, count: usize) -> String {
    let digits = if count > 100 {
        3
    } else if count > 10 {
        2
    } else {
        1
    };
    format!("{order:0digits$}")
}

/// Written before the mount is made, so that whatever is mounted has one.
fn note(point: &Path, mount: &Mount) -> Result<()> {
    let source = Path::new(&mount.source);
    let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let note = Note { r#type: mount.kind.clone(), source };
    let bytes = serde_json::to_vec(&note).map_err(|error| {
        Error::invalid_argument(format!("the source {:?} is no text", mount.source)).with_source(error)
    })?;
    let mut name = point.as_os_str().to_owned();
    name.push(NOTE);
    let path = PathBuf::from(name);
    File::create_new(&path)
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
}

fn numbered(name: &str) -> Option<u64> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok()).flatten()
}

/// The names in a folder that are text.
fn names(folder: &Path) -> Result<Vec<String>> {
    let cannot = |error: std::io::Error| {
        let message = format!("cannot list {}", folder.display());
        Error::new(ErrorKind::of_io(&error), message).with_source(error)
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        names.extend(entry.map_err(cannot)?.file_name().into_string());
    }
    Ok(names)
}
