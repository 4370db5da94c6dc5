//! What the daemon sends to the `start` action, and what it gets back (rows H03, H06 and H07).

use std::io::{self, Read, Write};

use corten_api::{
    containerd::{
        runc::v1::Options,
        runtime::bootstrap::v1::{BootstrapParams, BootstrapResult, LogLevel},
    },
    runtimeoptions,
};
use corten_types::{Error, Result};
use prost::Message;
use prost_types::Any;

use crate::flags::Flags;

/// The most that is read of the daemon's message.
const MAX_MESSAGE_BYTES: u64 = 16 * 1024 * 1024;

/// The folder of the shims' sockets, unless the daemon names one.
pub(crate) const DEFAULT_SOCKET_FOLDER: &str = "/run/containerd/s";

/// How the daemon speaks, and what it said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bootstrap {
    /// It sent protobuf parameters and gets protobuf back; otherwise the plain address, which every version knows.
    pub(crate) speaks_protobuf: bool,
    pub(crate) socket_folder: String,
    /// The daemon's ttrpc address, if it said so here.
    pub(crate) ttrpc_address: Option<String>,
    pub(crate) grpc_address: String,
    pub(crate) publish_binary: String,
    pub(crate) debug: bool,
    pub(crate) options: Options,
}

/// Reads everything that the daemon wrote to standard input.
pub(crate) fn read_stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_MESSAGE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read the daemon's parameters", error))?;
    Ok(bytes)
}

impl Bootstrap {
    /// Understands `stdin`. Parameters count only if they name the id and the namespace of the command line: older daemons
    /// send other messages, which may happen to look like parameters.
    pub(crate) fn parse(stdin: &[u8], flags: &Flags) -> Result<Self> {
        let old = Self {
            socket_folder: DEFAULT_SOCKET_FOLDER.to_owned(),
            grpc_address: flags.address.clone(),
            publish_binary: flags.publish_binary.clone(),
            debug: flags.debug,
            ..Self::default()
        };
        let parameters = BootstrapParams::decode(stdin)
            .ok()
            .filter(|found| found.instance_id == flags.id && found.namespace == flags.namespace);
        let Some(found) = parameters else {
            return Ok(Self { options: old_options(stdin)?, ..old });
        };
        let mut options = Options::default();
        for extension in found.extensions.iter().filter_map(|extension| extension.value.as_ref()) {
            if let Some(runc) = runc_options(extension)? {
                options = runc;
            }
        }
        let filled = |value: String, otherwise: String| if value.is_empty() { otherwise } else { value };
        Ok(Self {
            speaks_protobuf: true,
            socket_folder: filled(found.socket_dir.unwrap_or_default(), old.socket_folder),
            ttrpc_address: Some(found.containerd_ttrpc_address).filter(|address| !address.is_empty()),
            grpc_address: filled(found.containerd_grpc_address, old.grpc_address),
            publish_binary: filled(found.containerd_binary, old.publish_binary),
            debug: old.debug || found.log_level <= LogLevel::Debug as i32,
            options,
        })
    }

    /// Tells the daemon where the shim listens, in the form that it understands.
    pub(crate) fn answer(&self, address: &str) -> Result<()> {
        let answer = if self.speaks_protobuf {
            BootstrapResult {
                version: 3,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..BootstrapResult::default()
            }
            .encode_to_vec()
        } else {
            address.as_bytes().to_vec()
        };
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(&answer)
            .and_then(|()| stdout.flush())
            .map_err(|error| Error::io("answer the daemon", error))
    }
}

/// What daemons before the parameters sent: the options, or nothing. What is not understood is left out, as they did.
fn old_options(stdin: &[u8]) -> Result<Options> {
    let known = Any::decode(stdin).ok().and_then(|any| runc_options(&any).ok().flatten());
    Ok(known.unwrap_or_default())
}

/// The runc options in `any`. `None` if it is a message of another type (rows H50 and H53).
///
/// # Errors
/// `InvalidArgument`: the type is right and the bytes are not.
pub(crate) fn runc_options(any: &Any) -> Result<Option<Options>> {
    let type_name = any.type_url.rsplit('/').next().unwrap_or_default();
    match type_name {
        "containerd.runc.v1.Options" => Options::decode(any.value.as_slice())
            .map(Some)
            .map_err(|error| Error::invalid_argument("decode the runc options").with_source(error)),
        // The generic options name a configuration file, which runc has none of.
        "runtimeoptions.v1.Options" => {
            runtimeoptions::v1::Options::decode(any.value.as_slice())
                .map_err(|error| Error::invalid_argument("decode the runtime options").with_source(error))?;
            Ok(Some(Options::default()))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
#[path = "bootstrap/tests.rs"]
mod tests;
