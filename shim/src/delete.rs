//! The `delete` action: what a dead shim left behind goes (row H78).

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use corten_api::containerd::task::v3::DeleteResponse;
use corten_mount::{UnmountFlags, unmount_recursive};
use corten_runtime_runc::{Processes, Runtime, read_pid_file};
use corten_types::{Error, Result};
use prost::Message;

use crate::{flags::Flags, log, options, service::runtime_root, socket, start::ADDRESS_FILE};

/// The status of a container that had to be killed.
const KILLED: u32 = 137;

/// Removes the container from the runtime, unmounts its root filesystem, removes the dead shim's socket, and tells the
/// daemon how the container ended. What fails is logged, and the rest is done all the same.
pub(crate) fn delete(flags: &Flags) -> Result<()> {
    let bundle = bundle(flags)?;
    let stored = options::read(&bundle)?;
    let binary = if stored.binary_name.is_empty() { "runc" } else { &stored.binary_name };
    let runtime = Runtime::new(binary, runtime_root(&stored.root, &flags.namespace))
        .with_log(bundle.join("log.json"))
        .with_systemd_cgroup(stored.systemd_cgroup)
        .with_processes(Arc::new(WaitingProcesses));
    let executor = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::io("start the clean-up", error))?;
    if let Err(error) = executor.block_on(runtime.delete(&flags.id, true)) {
        log::warn(format_args!("remove the container {}: {error}", flags.id));
    }
    let rootfs = bundle.join("rootfs");
    if let Err(error) = unmount_recursive(&rootfs, UnmountFlags::DETACH) {
        log::warn(format_args!("unmount {}: {}", rootfs.display(), error.chain()));
    }
    remove_socket(&bundle);
    let pid = read_pid_file(&bundle.join("init.pid")).unwrap_or_default();
    let answer = DeleteResponse { pid, exit_status: KILLED, exited_at: Some(SystemTime::now().into()) }
        .encode_to_vec();
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&answer)
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::io("answer the daemon", error))
}

/// The bundle of the container: the one that was named, or the one beside the current folder.
fn bundle(flags: &Flags) -> Result<PathBuf> {
    let current = std::env::current_dir().map_err(|error| Error::io("find the current folder", error))?;
    let named = flags.bundle.as_ref().filter(|path| path.file_name().is_some_and(|name| *name == *flags.id));
    Ok(match named {
        Some(path) => current.join(path),
        None => current.parent().unwrap_or(&current).join(&flags.id),
    })
}

/// Removes the socket of a shim that no longer answers. A shim that lives on for others of its group keeps its own.
fn remove_socket(bundle: &Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join(ADDRESS_FILE)) else { return };
    if let Some(path) = socket::path_of(&address)
        && let Err(error) = socket::remove_if_dead(&path)
    {
        log::warn(format_args!("remove the socket {}: {error}", path.display()));
    }
}

/// Starts a process and waits for it: this action does one thing at a time.
#[derive(Debug)]
struct WaitingProcesses;

#[async_trait::async_trait]
impl Processes for WaitingProcesses {
    async fn run(&self, mut command: std::process::Command) -> io::Result<std::process::ExitStatus> {
        command.status()
    }
}
