//! From the name of a runtime to the program of its shim (rows H01 and H02).

use std::{
    collections::{BTreeMap, HashMap},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use corten_types::{Error, Result};

use crate::locked;

/// How many names are remembered. A name that is not is looked for again.
const MAX_REMEMBERED: usize = 256;

/// Finds shims, and remembers where each was: a shim that is replaced by another path keeps the old one (H02).
#[derive(Debug)]
pub(crate) struct Lookup {
    overrides: BTreeMap<String, PathBuf>,
    folders: Vec<PathBuf>,
    found: Mutex<HashMap<String, PathBuf>>,
}

impl Lookup {
    /// Looks in `folders` first, then in `PATH`, then where containerd's own packages put shims.
    pub(crate) fn new(overrides: BTreeMap<String, PathBuf>, mut folders: Vec<PathBuf>) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        folders.extend(std::env::split_paths(&path).filter(|folder| folder.is_absolute()));
        folders.push(PathBuf::from("/opt/containerd/bin"));
        Self { overrides, folders, found: Mutex::new(HashMap::new()) }
    }

    /// The program for `runtime`: an absolute path as it is, or a name such as `io.containerd.runc.v2`.
    ///
    /// # Errors
    /// - `InvalidArgument`: neither a name of that form nor an absolute path.
    /// - `NotFound`: no such program here.
    pub(crate) fn find(&self, runtime: &str) -> Result<PathBuf> {
        if let Some(path) = self.overrides.get(runtime) {
            return existing(runtime, path);
        }
        if runtime.starts_with('/') {
            return existing(runtime, Path::new(runtime));
        }
        let program = program_name(runtime)?;
        if let Some(path) = locked(&self.found).get(&program) {
            return Ok(path.clone());
        }
        let found = self.folders.iter().map(|folder| folder.join(&program)).find(|path| is_program(path));
        let path = found.ok_or_else(|| {
            Error::not_found(format!("runtime {runtime:?} binary not installed {program:?}"))
        })?;
        let mut remembered = locked(&self.found);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        Ok(remembered.entry(program).or_insert(path).clone())
    }

    /// The program that was at `path` when a bundle was made; if it went with an upgrade, another of its name.
    pub(crate) fn find_again(&self, path: &Path) -> Option<PathBuf> {
        if is_program(path) {
            return Some(path.to_path_buf());
        }
        let name = path.file_name()?;
        self.folders.iter().map(|folder| folder.join(name)).find(|candidate| is_program(candidate))
    }
}

fn existing(runtime: &str, path: &Path) -> Result<PathBuf> {
    match is_program(path) {
        true => Ok(path.to_path_buf()),
        false => Err(Error::not_found(format!(
            "runtime {runtime:?} binary not installed: {} is not a program",
            path.display()
        ))),
    }
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// `a.b.<name>.<version>` is `containerd-shim-<name>-<version>`.
fn program_name(runtime: &str) -> Result<String> {
    let mut parts = runtime.rsplit('.');
    let (version, name) = (parts.next(), parts.next());
    match (name, version) {
        (Some(name), Some(version)) if !runtime.starts_with('.') && !runtime.contains('/') => {
            Ok(format!("containerd-shim-{name}-{version}"))
        }
        _ => Err(Error::invalid_argument(format!(
            "invalid runtime name {runtime:?}: it is a name like io.containerd.runc.v2 or an absolute path"
        ))),
    }
}

#[cfg(test)]
mod tests;
