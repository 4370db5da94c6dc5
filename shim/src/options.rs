//! What a bundle keeps of the options a container was created with: `options.json` and `runtime` (row H32).

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use corten_api::containerd::runc::v1::Options;
use corten_types::{Error, Result};
use serde::{Deserialize, Serialize};

const OPTIONS_FILE: &str = "options.json";
const RUNTIME_FILE: &str = "runtime";

/// The options in JSON, with the names that containerd's shim uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    #[serde(skip_serializing_if = "is_default")]
    no_pivot_root: bool,
    #[serde(skip_serializing_if = "is_default")]
    no_new_keyring: bool,
    #[serde(skip_serializing_if = "is_default")]
    shim_cgroup: String,
    #[serde(skip_serializing_if = "is_default")]
    io_uid: u32,
    #[serde(skip_serializing_if = "is_default")]
    io_gid: u32,
    #[serde(skip_serializing_if = "is_default")]
    binary_name: String,
    #[serde(skip_serializing_if = "is_default")]
    root: String,
    #[serde(skip_serializing_if = "is_default")]
    systemd_cgroup: bool,
    #[serde(skip_serializing_if = "is_default")]
    criu_image_path: String,
    #[serde(skip_serializing_if = "is_default")]
    criu_work_path: String,
    #[serde(skip_serializing_if = "is_default")]
    task_api_address: String,
    #[serde(skip_serializing_if = "is_default")]
    task_api_version: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Keeps `options` in `bundle` for the `delete` action.
pub(crate) fn write(bundle: &Path, options: &Options) -> Result<()> {
    let stored = Stored {
        no_pivot_root: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        shim_cgroup: options.shim_cgroup.clone(),
        io_uid: options.io_uid,
        io_gid: options.io_gid,
        binary_name: options.binary_name.clone(),
        root: options.root.clone(),
        systemd_cgroup: options.systemd_cgroup,
        criu_image_path: options.criu_image_path.clone(),
        criu_work_path: options.criu_work_path.clone(),
        task_api_address: options.task_api_address.clone(),
        task_api_version: options.task_api_version,
    };
    let text = serde_json::to_vec(&stored)
        .map_err(|error| Error::internal("encode the runc options").with_source(error))?;
    write_file(&bundle.join(OPTIONS_FILE), &text)?;
    write_file(&bundle.join(RUNTIME_FILE), options.binary_name.as_bytes())
}

/// The options that were kept in `bundle`; the defaults if there are none.
pub(crate) fn read(bundle: &Path) -> Result<Options> {
    let path = bundle.join(OPTIONS_FILE);
    let stored: Stored = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| Error::data_loss(format!("read {}", path.display())).with_source(error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::default(),
        Err(error) => return Err(Error::io(format!("read {}", path.display()), error)),
    };
    let binary_name = match std::fs::read_to_string(bundle.join(RUNTIME_FILE)) {
        Ok(name) if !name.is_empty() => name,
        _ => stored.binary_name,
    };
    Ok(Options {
        no_pivot_root: stored.no_pivot_root,
        no_new_keyring: stored.no_new_keyring,
        shim_cgroup: stored.shim_cgroup,
        io_uid: stored.io_uid,
        io_gid: stored.io_gid,
        binary_name,
        root: stored.root,
        systemd_cgroup: stored.systemd_cgroup,
        criu_image_path: stored.criu_image_path,
        criu_work_path: stored.criu_work_path,
        task_api_address: stored.task_api_address,
        task_api_version: stored.task_api_version,
    })
}

/// Writes a small file of a bundle. Bundles lie on a tmpfs and do not outlive a power cut.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| Error::io(format!("write {}", path.display()), error))
}

#[cfg(test)]
#[path = "options/tests.rs"]
mod tests;
