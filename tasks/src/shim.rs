//! Starting a shim, and undoing that without leaving anything behind.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_types::{Any, Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, kill_process};

use corten_api::containerd::task::v3 as wire;

use crate::{
    blocking,
    bootstrap::{Bootstrap, Stdin},
    bundle::{Bundle, replace_file},
    command::{self, Output, Streams},
    connection::{Connection, Shim, remove_dead_socket},
    inner::Inner,
    locked,
    log::LogDrain,
    registry::Key,
};

/// The file that names the shim's program, for after a restart (H10).
const PROGRAM_FILE: &str = "shim-binary-path";
/// The file that names the sandbox whose shim was joined (H70).
const SANDBOX_FILE: &str = "sandbox";
/// How many shims' habits are remembered.
const MAX_REMEMBERED: usize = 256;

impl Inner {
    /// Runs `<shim> start` in the bundle and connects to what it says. What is started is recorded in the bundle first, so that a
    /// daemon that dies in the middle finds it again.
    pub(crate) async fn start_shim(
        &self,
        key: &Key,
        bundle: &Bundle,
        shim: &Path,
        options: Option<&Any>,
    ) -> Result<Arc<Connection>> {
        let log = LogDrain::open(bundle, key)?;
        replace_file(&bundle.file(PROGRAM_FILE), shim.as_os_str().as_encoded_bytes(), 0o600)?;
        let output = self.run_start(key, bundle, shim, options).await?;
        let bootstrap = Bootstrap::parse(&output)?;
        bootstrap.save(bundle)?;
        tracing::debug!(?key, address = %bootstrap.address, version = bootstrap.version, "shim started");
        let connection =
            self.connections.open(&bootstrap, Shim::Starting, self.settings.timeouts.load).await?;
        connection.keep_log(log);
        Ok(connection)
    }

    /// Joins the shim of a sandbox instead of starting one (H15).
    pub(crate) async fn join_shim(
        &self,
        bundle: &Bundle,
        shim: &Path,
        sandbox_id: &str,
        bootstrap: &Bootstrap,
    ) -> Result<Arc<Connection>> {
        replace_file(&bundle.file(SANDBOX_FILE), sandbox_id.as_bytes(), 0o600)?;
        replace_file(&bundle.file(PROGRAM_FILE), shim.as_os_str().as_encoded_bytes(), 0o600)?;
        bootstrap.save(bundle)?;
        self.connections.open(bootstrap, Shim::Running, self.settings.timeouts.load).await
    }

    async fn run_start(
        &self,
        key: &Key,
        bundle: &Bundle,
        shim: &Path,
        options: Option<&Any>,
    ) -> Result<Vec<u8>> {
        let form = locked(&self.stdin_forms).get(shim).copied().unwrap_or(Stdin::Params);
        let output = self.run_start_once(key, bundle, shim, options, form).await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        if form.was_misunderstood(&String::from_utf8_lossy(&output.stdout)) {
            let output = self.run_start_once(key, bundle, shim, options, Stdin::Options).await?;
            if output.status.success() {
                let mut forms = locked(&self.stdin_forms);
                if forms.len() >= MAX_REMEMBERED {
                    forms.clear();
                }
                forms.insert(shim.to_path_buf(), Stdin::Options);
                return Ok(output.stdout);
            }
            return Err(failed_start(&output));
        }
        Err(failed_start(&output))
    }

    async fn run_start_once(
        &self,
        key: &Key,
        bundle: &Bundle,
        shim: &Path,
        options: Option<&Any>,
        form: Stdin,
    ) -> Result<Output> {
        let input = form.encode(&self.settings, &key.namespace, &key.id, options);
        let command = command::action(&self.settings, shim, &key.namespace, &key.id, bundle, "start");
        command::run(command, &input, Streams::Merged, self.settings.timeouts.start).await
    }

    /// Runs `<shim> delete`, which kills what is left of a container and unmounts its rootfs (H76, H78).
    pub(crate) async fn run_delete(
        &self,
        key: &Key,
        bundle: &Bundle,
        shim: &Path,
    ) -> Result<wire::DeleteResponse> {
        let command = command::action(&self.settings, shim, &key.namespace, &key.id, bundle, "delete");
        let output = command::run(command, &[], Streams::Apart, self.settings.timeouts.cleanup).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(Error::unknown(format!(
                "{} delete failed: {}: {}",
                shim.display(),
                stderr.trim(),
                output.status
            )));
        }
        if !stderr.trim().is_empty() {
            tracing::warn!(?key, "warnings while cleaning up after the shim: {}", stderr.trim());
        }
        prost::Message::decode(output.stdout.as_slice()).map_err(|source| {
            Error::unknown(format!("{} delete answered with something else", shim.display()))
                .with_source(source)
        })
    }

    /// The program that made `bundle`, as recorded in it.
    pub(crate) fn recorded_shim(&self, bundle: &Bundle) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let bytes = fs::read(bundle.file(PROGRAM_FILE)).ok()?;
        self.lookup.find_again(Path::new(&std::ffi::OsString::from_vec(bytes)))
    }

    /// Undoes a creation that failed after the bundle was made: no container, shim, socket, mount or bundle remains.
    pub(crate) async fn undo(
        &self,
        key: &Key,
        bundle: &Bundle,
        shim: &Path,
        connection: Option<Arc<Connection>>,
    ) {
        let limits = self.settings.timeouts;
        let mut known_to_shim = connection.is_none();
        if let Some(connection) = &connection {
            let request = wire::DeleteRequest { id: key.id.clone(), exec_id: String::new() };
            let deleted: Result<wire::DeleteResponse> =
                connection.call_within(&key.namespace, "Delete", request, limits.cleanup).await;
            known_to_shim = deleted.is_err_and(|error| error.kind() != ErrorKind::NotFound);
            let asked = connection.shut_down(key, limits.shutdown).await;
            let alone = self.registry.count_at(&connection.address) == 0;
            if asked.is_ok() && alone {
                let _ = tokio::time::timeout(limits.shutdown, connection.closed()).await;
            }
        }
        let (stray_key, stray_shim) = (key.clone(), shim.to_path_buf());
        // It cannot fail, and a panic in it must not keep the bundle.
        let _ = blocking(move || {
            kill_strays(&stray_key, &stray_shim);
            Ok(())
        })
        .await;
        if let Some(connection) = &connection {
            remove_dead_socket(&connection.address).await;
        }
        if known_to_shim && let Err(error) = self.run_delete(key, bundle, shim).await {
            tracing::debug!(?key, error = error.chain(), "the shim had nothing to clean up");
        }
        let bundle = bundle.clone();
        if let Err(error) = blocking(move || bundle.delete()).await {
            tracing::error!(
                ?key,
                error = error.chain(),
                "cannot remove the bundle of a task that was not created"
            );
        }
    }
}

/// What the shim printed is the reason; its exit status is not.
fn failed_start(output: &Output) -> Error {
    let printed = String::from_utf8_lossy(&output.stdout);
    match printed.trim() {
        "" => Error::unknown(format!("start failed: {}", output.status)),
        reason => Error::unknown(format!("start failed: {reason}: {}", output.status)),
    }
}

/// Kills shims that were started for exactly this task and did not end by themselves. A shim that serves a group was started
/// for another id.
fn kill_strays(key: &Key, shim: &Path) {
    let Ok(program) = fs::canonicalize(shim) else { return };
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let Some(pid) =
            process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        if fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == program)
            && fs::read(process.path().join("cmdline")).is_ok_and(|line| was_started_for(&line, key))
        {
            tracing::warn!(
                ?key,
                pid = pid.as_raw_nonzero(),
                "killing the shim of a task that was not created"
            );
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn was_started_for(command_line: &[u8], key: &Key) -> bool {
    let words: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let has = |flag: &[u8], value: &str| words.windows(2).any(|pair| pair == [flag, value.as_bytes()]);
    has(b"-id", &key.id) && has(b"-namespace", key.namespace.as_str())
}
