//! What a runtime says about itself, for clients that probe it (rows N05 and N06).

use std::sync::Arc;

use async_trait::async_trait;
use corten_api::{
    containerd::types::{RuntimeInfo as WireInfo, RuntimeRequest, RuntimeVersion},
    convert::{any_from_wire, any_of, any_to_wire, message_of},
};
use corten_server::services::introspection::PluginInfo;
use corten_tasks::Tasks;
use corten_types::{Any, Error, Result};

/// Asks shims.
pub(crate) struct RuntimeInfo {
    pub(crate) tasks: Arc<Tasks>,
}

#[async_trait]
impl PluginInfo for RuntimeInfo {
    async fn info(&self, kind: &str, id: &str, options: &Any) -> Result<Any> {
        if (kind, id) != ("io.containerd.runtime.v2", "task") {
            return Err(Error::unimplemented(format!("plugin {kind}.{id} has nothing to tell")));
        }
        let request: RuntimeRequest = message_of(options)?;
        let options = request.options.map(any_from_wire);
        let info = self.tasks.runtime_info(&request.runtime_path, options.as_ref()).await?;
        Ok(any_of(&WireInfo {
            name: info.name,
            version: Some(RuntimeVersion { version: info.version, revision: info.revision }),
            options: info.options.map(any_to_wire),
            features: info.features.map(any_to_wire),
            annotations: info.annotations,
        }))
    }
}
