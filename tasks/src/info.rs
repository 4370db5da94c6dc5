//! What a shim says about itself, and what must be asked before a container may use it (rows H19 and H81).

use std::path::Path;

use corten_api::containerd::types as wire;
use corten_types::{Any, Error, Result};
use prost::Message;
use serde::Deserialize;
use tokio::process::Command;

use crate::{
    command::{self, Streams},
    convert::{any_from_wire, any_to_wire},
    inner::Inner,
    model::RuntimeInfo,
};

const FEATURES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

impl Inner {
    /// Runs `<shim> -info`.
    pub(crate) async fn shim_info(&self, shim: &Path, options: Option<&Any>) -> Result<RuntimeInfo> {
        let mut command = Command::new(shim);
        command.arg("-info").current_dir("/");
        let input = options.map(|options| any_to_wire(options).encode_to_vec()).unwrap_or_default();
        let output = command::run(command, &input, Streams::Apart, self.settings.timeouts.start).await?;
        if !output.status.success() {
            return Err(Error::unknown(format!(
                "{} -info failed: {}: {}",
                shim.display(),
                String::from_utf8_lossy(&output.stderr).trim(),
                output.status
            )));
        }
        let info = wire::RuntimeInfo::decode(output.stdout.as_slice()).map_err(|source| {
            Error::unknown(format!("{} -info answered with something else", shim.display()))
                .with_source(source)
        })?;
        let version = info.version.unwrap_or_default();
        Ok(RuntimeInfo {
            name: info.name,
            version: version.version,
            revision: version.revision,
            options: info.options.map(any_from_wire),
            features: info.features.map(any_from_wire),
            annotations: info.annotations,
        })
    }

    /// Refuses a spec whose mounts need mapped ids where the runtime would silently ignore that (H81).
    pub(crate) async fn check_features(&self, shim: &Path, spec: &Any, options: Option<&Any>) -> Result<()> {
        if !uses_mapped_mounts(&spec.value) {
            return Ok(());
        }
        let info = self.shim_info(shim, options).await.map_err(|error| {
            Error::new(error.kind(), "failed to validate OCI runtime features").with_source(error)
        })?;
        match info.features {
            // Runtimes that are not like runc say nothing; they may know about it all the same.
            Some(features) if features.type_url == FEATURES_TYPE => check_mapped_mounts(&features.value),
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct SpecMounts {
    #[serde(default)]
    mounts: Option<Vec<SpecMount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecMount {
    #[serde(default)]
    uid_mappings: Option<serde_json::Value>,
    #[serde(default)]
    gid_mappings: Option<serde_json::Value>,
    #[serde(default)]
    options: Option<Vec<String>>,
}

/// A spec that is not JSON is the runtime's to refuse.
fn uses_mapped_mounts(spec: &[u8]) -> bool {
    let Ok(spec) = serde_json::from_slice::<SpecMounts>(spec) else { return false };
    spec.mounts.unwrap_or_default().iter().any(|mount| {
        let options = mount.options.as_deref().unwrap_or_default();
        mount.uid_mappings.is_some()
            || mount.gid_mappings.is_some()
            || options.iter().any(|option| option == "idmap" || option == "ridmap")
    })
}

fn check_mapped_mounts(features: &[u8]) -> Result<()> {
    let features: serde_json::Value = serde_json::from_slice(features)
        .map_err(|source| Error::unknown("the runtime's features are not valid JSON").with_source(source))?;
    match features.pointer("/linux/mountExtensions/idmap/enabled").and_then(serde_json::Value::as_bool) {
        Some(true) => Ok(()),
        _ => Err(Error::failed_precondition(
            "the container has mounts with mapped ids, and its OCI runtime does not support them",
        )),
    }
}

#[cfg(test)]
mod tests;
