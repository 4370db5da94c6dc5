//! How a shim is told what it needs, and how it answers where it listens (rows H03, H06 to H09).

use std::{collections::BTreeMap, io, path::Path};

use corten_api::containerd::runtime::bootstrap::v1::{BootstrapParams, BootstrapResult, Extension, LogLevel};
use corten_types::{Any, Error, ErrorKind, Namespace, Result};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{
    bundle::{Bundle, io_error, replace_file},
    convert::any_to_wire,
    options::Options,
};

/// The newest task service that we speak.
const MAX_VERSION: i32 = 3;
/// The version of a shim that only says its address.
const PLAIN_VERSION: i32 = 2;
const TTRPC: &str = "ttrpc";
/// How much of an answer that makes no sense is quoted.
const QUOTED_BYTES: usize = 400;

/// Where a shim listens and what it speaks. As JSON it is `bootstrap.json` (H09).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    #[serde(default)]
    pub(crate) version: i32,
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) protocol: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) capabilities: Vec<i32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Bootstrap {
    /// A shim that said only its address: ttrpc, version 2.
    pub(crate) fn plain(address: &str) -> Self {
        Self {
            version: PLAIN_VERSION,
            address: address.to_owned(),
            protocol: TTRPC.to_owned(),
            ..Self::default()
        }
    }

    /// Reads what `<shim> start` printed: protobuf, JSON or the plain address (H07).
    pub(crate) fn parse(answer: &[u8]) -> Result<Self> {
        let text = answer.trim_ascii();
        if text.is_empty() {
            return Err(Error::unknown("the shim started and said nothing about its address"));
        }
        if let Some(result) = from_protobuf(answer) {
            return result.checked();
        }
        match serde_json::from_slice::<Self>(text) {
            Ok(result) if result.version >= PLAIN_VERSION => result.checked(),
            _ => from_plain(text)?.checked(),
        }
    }

    /// Refuses what we cannot talk to.
    fn checked(self) -> Result<Self> {
        if self.version > MAX_VERSION {
            return Err(Error::unimplemented(format!("unsupported shim version ({})", self.version)));
        }
        if self.version < PLAIN_VERSION {
            return Err(Error::unknown(format!("the shim answered with version {}", self.version)));
        }
        if self.address.is_empty() {
            return Err(Error::unknown("the shim answered without an address"));
        }
        match self.protocol.to_ascii_lowercase().as_str() {
            TTRPC => Ok(self),
            "grpc" => Err(Error::unimplemented("shims that speak gRPC are not supported; only ttrpc is")),
            other => Err(Error::unknown(format!("the shim answered with the unexpected protocol {other:?}"))),
        }
    }

    /// Writes `bootstrap.json` as a whole.
    pub(crate) fn save(&self, bundle: &Bundle) -> Result<()> {
        let json = serde_json::to_vec(self)
            .map_err(|source| Error::internal("cannot encode bootstrap.json").with_source(source))?;
        replace_file(&bundle.file("bootstrap.json"), &json, 0o644)
    }

    /// Reads `bootstrap.json`, or the `address` of a shim that is older than that file, which is then written (H09, H75).
    ///
    /// `None` if the bundle has neither: its shim was never started, or died before it said where it listens.
    pub(crate) fn load(bundle: &Bundle) -> Result<Option<Self>> {
        if let Some(json) = read_optional(&bundle.file("bootstrap.json"))? {
            return Self::parse(&json).map(Some);
        }
        let Some(address) = read_optional(&bundle.file("address"))?.filter(|address| !address.is_empty())
        else {
            return Ok(None);
        };
        let bootstrap = from_plain(address.trim_ascii())?.checked()?;
        bootstrap.save(bundle)?;
        Ok(Some(bootstrap))
    }
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path, source)),
    }
}

/// Text can be valid protobuf by accident, so only what names a protocol counts.
fn from_protobuf(answer: &[u8]) -> Option<Bootstrap> {
    let result = BootstrapResult::decode(answer).ok()?;
    if result.protocol.is_empty() || result.address.is_empty() {
        return None;
    }
    Some(Bootstrap {
        version: result.version,
        address: result.address,
        protocol: result.protocol,
        capabilities: result.capabilities,
        metadata: result.metadata,
    })
}

/// One word is an address. Anything else is a shim that printed something beside it, which is worth reading.
fn from_plain(text: &[u8]) -> Result<Bootstrap> {
    let quoted = || String::from_utf8_lossy(text.get(..QUOTED_BYTES).unwrap_or(text)).into_owned();
    match std::str::from_utf8(text) {
        Ok(address) if !address.chars().any(|letter| letter.is_whitespace() || letter.is_control()) => {
            Ok(Bootstrap::plain(address))
        }
        _ => Err(Error::unknown(format!("the shim did not answer with an address: {:?}", quoted()))),
    }
}

/// The two things that `<shim> start` may expect on its stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// `BootstrapParams`, for all shims since 2.3 and those that do not care.
    Params,
    /// The bare options. containerd 1.6's shims take anything else for damaged options.
    Options,
}

impl Stdin {
    /// The bytes to send.
    pub(crate) fn encode(
        self,
        settings: &Options,
        namespace: &Namespace,
        id: &str,
        options: Option<&Any>,
    ) -> Vec<u8> {
        match self {
            Self::Options => options.map(|options| any_to_wire(options).encode_to_vec()).unwrap_or_default(),
            Self::Params => params(settings, namespace, id, options).encode_to_vec(),
        }
    }

    /// Whether a failed `start` reads like a shim that took `BootstrapParams` for options.
    pub(crate) fn was_misunderstood(self, output: &str) -> bool {
        const SIGNS: [&str; 4] = ["type with url", "proto: ", "wiretype", "failed to unmarshal"];
        self == Self::Params && SIGNS.iter().any(|sign| output.contains(sign))
    }
}

fn params(settings: &Options, namespace: &Namespace, id: &str, options: Option<&Any>) -> BootstrapParams {
    let level = if settings.debug { LogLevel::Debug } else { LogLevel::Info };
    let extension = |options: &Any| Extension { value: Some(any_to_wire(options)) };
    BootstrapParams {
        instance_id: id.to_owned(),
        namespace: namespace.to_string(),
        log_level: level.into(),
        containerd_version: settings.version.clone(),
        containerd_ttrpc_address: settings.ttrpc_address.clone(),
        containerd_grpc_address: settings.grpc_address.clone(),
        containerd_binary: settings.containerd_binary.display().to_string(),
        extensions: options.map(extension).into_iter().collect(),
        socket_dir: settings.socket_dir.as_ref().map(|folder| folder.display().to_string()),
    }
}

/// The endpoint of a sandbox's controller, `<protocol>+<address>` (K04).
pub(crate) fn from_task_api(endpoint: &str, version: u32) -> Result<Bootstrap> {
    let (protocol, address) = endpoint.split_once('+').ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!("the task service {endpoint:?} is not of the form protocol+scheme://address"),
        )
    })?;
    let version = i32::try_from(version).unwrap_or(i32::MAX);
    Bootstrap { version, address: address.to_owned(), protocol: protocol.to_owned(), ..Bootstrap::default() }
        .checked()
}

#[cfg(test)]
mod tests;
