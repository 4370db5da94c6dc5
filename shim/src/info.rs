//! The `-info` flag: what the runtime can do (row H19).

use std::{
    io::{self, Write},
    path::PathBuf,
};

use corten_api::containerd::types::{RuntimeInfo, RuntimeVersion};
use corten_runtime_runc::Runtime;
use corten_types::{Error, Result};
use prost::Message;
use prost_types::Any;

use crate::{bootstrap, log};

/// The name by which containers ask for this runtime.
const RUNTIME_NAME: &str = "io.containerd.runc.v2";

/// The type under which the features of a runtime travel.
const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Reads the options from standard input and prints what the runtime that they name can do.
pub(crate) fn info() -> Result<()> {
    let stdin = bootstrap::read_stdin()?;
    let options = Any::decode(stdin.as_slice()).ok().filter(|any| !any.type_url.is_empty());
    let parsed = match &options {
        Some(any) => bootstrap::runc_options(any)?.unwrap_or_default(),
        None => Default::default(),
    };
    let binary = if parsed.binary_name.is_empty() { "runc" } else { &parsed.binary_name };
    let found = look_up(binary)
        .ok_or_else(|| Error::not_found(format!("exec: {binary:?}: executable file not found in $PATH")))?;
    let executor = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::io("ask the runtime", error))?;
    let features = match executor.block_on(Runtime::new(found, "/run/runc").features()) {
        Ok(json) => Some(Any { type_url: FEATURES_TYPE.to_owned(), value: json }),
        Err(error) => {
            // Runtimes without the command work all the same.
            log::debug(format_args!("{error}"));
            None
        }
    };
    let info = RuntimeInfo {
        name: RUNTIME_NAME.to_owned(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        options,
        features,
        ..RuntimeInfo::default()
    };
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&info.encode_to_vec())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::io("print what the runtime can do", error))
}

/// Finds a program as a shell would.
fn look_up(name: &str) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(is_program)
}
