//! A task's folder: the bundle that the OCI runtime reads, with the files that survive the daemon (rows H70 to H73).

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use corten_mount::{UnmountFlags, unmount_recursive};
use corten_types::{Any, Error, Namespace, Result};
use serde::Deserialize;

use crate::convert::type_name;

/// The folder below root and state that containerd's task manager uses; tools look for it.
const FOLDER: &str = "io.containerd.runtime.v2.task";
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Where bundles and work folders are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    state: PathBuf,
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path, state: &Path) -> Self {
        Self { state: state.join(FOLDER), root: root.join(FOLDER) }
    }

    /// All namespaces' bundles.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// All namespaces' work folders.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn bundle(&self, namespace: &Namespace, id: &str) -> Bundle {
        Bundle {
            path: self.state.join(namespace.as_str()).join(id),
            work: self.root.join(namespace.as_str()).join(id),
        }
    }
}

/// One task's folder. The value only names it.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    path: PathBuf,
    work: PathBuf,
}

impl Bundle {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Makes the folder with `config.json`, `rootfs` and `work`. A folder that exists already is refused and left alone; a
    /// left-over work folder is replaced (H73). Nothing is left after any other error.
    pub(crate) fn create(&self, spec: &Any) -> Result<()> {
        make_parents(&self.path)
            .map_err(|source| io_error("make the parents of bundle", &self.path, source))?;
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Ok(()) => {}
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::already_exists(format!("bundle {}", self.path.display())));
            }
            Err(source) => return Err(io_error("make bundle", &self.path, source)),
        }
        self.fill(spec).inspect_err(|_| {
            let _ = fs::remove_dir_all(&self.path);
            let _ = fs::remove_dir_all(&self.work);
        })
    }

    fn fill(&self, spec: &Any) -> Result<()> {
        let in_bundle = |source| io_error("fill bundle", &self.path, source);
        self.set_owner(spec)?;
        make_folder(&self.rootfs(), 0o711).map_err(in_bundle)?;
        make_parents(&self.work).map_err(in_bundle)?;
        match fs::remove_dir_all(&self.work) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(in_bundle(source)),
            _ => {}
        }
        make_folder(&self.work, 0o711).map_err(in_bundle)?;
        symlink(&self.work, self.file("work")).map_err(in_bundle)?;
        write_file(&self.file("config.json"), &spec.value, 0o644).map_err(in_bundle)
    }

    /// 0700, or passable by the group that the container's root group maps to.
    fn set_owner(&self, spec: &Any) -> Result<()> {
        let group = match type_name(&spec.type_url) == type_name(SPEC_TYPE) {
            true => mapped_root_group(&spec.value)?,
            false => None,
        };
        let mode = if group.is_some() { 0o710 } else { 0o700 };
        let in_bundle = |source| io_error("set the owner of bundle", &self.path, source);
        if let Some(group) = group {
            chown(&self.path, None, Some(group)).map_err(in_bundle)?;
        }
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)).map_err(in_bundle)
    }

    /// Unmounts what is on `rootfs`, then removes the bundle and the work folder. Each goes by renaming it to a hidden name
    /// first, so that a crash leaves nothing that looks like a task (H72). A folder that is gone already is no error.
    pub(crate) fn delete(&self) -> Result<()> {
        let rootfs = self.rootfs();
        if rootfs.exists() {
            unmount(&rootfs)?;
            // Never recursive: if something is still mounted there, its files must not go.
            match fs::remove_dir(&rootfs) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove the empty rootfs of bundle", &self.path, source));
                }
                _ => {}
            }
        }
        let bundle = remove_hidden(&self.path);
        let work = remove_hidden(&self.work);
        bundle.and(work)
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_none())
    }
}

/// Removes the folder `hidden` that a crash left half deleted.
pub(crate) fn remove_half_deleted(hidden: &Path) -> Result<()> {
    let rootfs = hidden.join("rootfs");
    if rootfs.exists() {
        unmount(&rootfs)?;
        let _ = fs::remove_dir(&rootfs);
        if rootfs.exists() {
            return Err(Error::failed_precondition(format!("{} is not empty", rootfs.display())));
        }
    }
    fs::remove_dir_all(hidden).map_err(|source| io_error("remove", hidden, source))
}

/// A mount that stays busy is detached: the container is dead, and the bundle must go.
fn unmount(rootfs: &Path) -> Result<()> {
    let flags = UnmountFlags { no_follow: true, ..UnmountFlags::NONE };
    unmount_recursive(rootfs, flags)
        .or_else(|_| unmount_recursive(rootfs, UnmountFlags { detach: true, ..flags }))
}

fn remove_hidden(path: &Path) -> Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let hidden = path.with_file_name(hidden);
    if hidden.exists() {
        remove_half_deleted(&hidden)?;
    }
    match rename(path, &hidden) {
        Ok(()) => fs::remove_dir_all(&hidden).map_err(|source| io_error("remove", &hidden, source)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io_error("remove", path, source)),
    }
}

/// Replaces `path` as a whole: readers see the old bytes or the new ones. Not durable; bundles live on a tmpfs.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension("new");
    let replaced = write_file(&temporary, bytes, mode).and_then(|()| rename(&temporary, path));
    replaced.map_err(|source| io_error("write", path, source))
}

#[expect(
    clippy::disallowed_methods,
    reason = "bundles do not outlive a boot, so they need no durable rename"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // The umask of a daemon is whatever its supervisor set.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    io::Write::write_all(&mut file, bytes)
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The namespace's folder and the task manager's, 0711 each: a container with mapped ids passes through them.
fn make_parents(path: &Path) -> io::Result<()> {
    let Some(namespace) = path.parent() else { return Ok(()) };
    if namespace.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = namespace.ancestors().take(2).collect();
    if let Some(above) = namespace.ancestors().nth(2) {
        fs::create_dir_all(above)?;
    }
    for folder in missing.into_iter().rev() {
        match make_folder(folder, 0o711) {
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct SpecMappings {
    linux: Option<LinuxMappings>,
}

#[derive(Deserialize)]
struct LinuxMappings {
    #[serde(rename = "gidMappings")]
    gid_mappings: Option<Vec<Mapping>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    #[serde(rename = "containerID", default)]
    container_id: u32,
    #[serde(rename = "hostID", default)]
    host_id: u32,
}

/// The host's group for the container's group 0, if it is mapped to another than 0.
fn mapped_root_group(spec: &[u8]) -> Result<Option<u32>> {
    let spec: SpecMappings = serde_json::from_slice(spec).map_err(|source| {
        Error::invalid_argument("the container's spec is not valid JSON").with_source(source)
    })?;
    let mappings = spec.linux.and_then(|linux| linux.gid_mappings).unwrap_or_default();
    let root = mappings.iter().find(|mapping| mapping.container_id == 0);
    Ok(root.map(|mapping| mapping.host_id).filter(|group| *group != 0))
}

pub(crate) fn io_error(what: &str, path: &Path, source: io::Error) -> Error {
    Error::io(format!("cannot {what} {}", path.display()), source)
}

#[cfg(test)]
mod tests;
