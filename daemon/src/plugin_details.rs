//! What parts of the daemon say about themselves, for clients that probe them (rows N05 and N06).

use std::sync::Arc;

use async_trait::async_trait;
use corten_api::{
    containerd::types::{RuntimeInfo as WireInfo, RuntimeRequest, RuntimeVersion},
    convert::{any_from_wire, any_of, any_to_wire, message_of},
};
use corten_metadata::{DatabaseStatistics as Statistics, Histogram, Metadata};
use corten_server::services::introspection::PluginInfo;
use corten_tasks::Tasks;
use corten_types::{Any, Error, Result};
use serde_json::{Value, json};

/// Asks shims and the database.
pub(crate) struct PluginDetails {
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) metadata: Metadata,
}

/// The type of the answer about the database: a JSON object.
const STATISTICS_TYPE: &str = "application/json";

#[async_trait]
impl PluginInfo for PluginDetails {
    async fn info(&self, kind: &str, id: &str, options: &Any) -> Result<Any> {
        match (kind, id) {
            ("io.containerd.runtime.v2", "task") => self.runtime(options).await,
            ("io.containerd.metadata.v1", "bolt") => Ok(self.statistics()),
            _ => Err(Error::unimplemented(format!("plugin {kind}.{id} has nothing to tell"))),
        }
    }
}

impl PluginDetails {
    async fn runtime(&self, options: &Any) -> Result<Any> {
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

    /// What the database and the collections have done since the start: an extension of ours.
    fn statistics(&self) -> Any {
        let Statistics {
            operations,
            commits,
            wait_micros,
            long_waits,
            commit_micros,
            run_micros,
            wal_bytes,
            ..
        } = self.metadata.database_statistics();
        let collections = self.metadata.statistics();
        let text = json!({
            "operations": operations,
            "commits": commits,
            "wait_micros": times(&wait_micros),
            "waits_over_50_ms": long_waits,
            "commit_micros": times(&commit_micros),
            "run_micros": times(&run_micros),
            "wal_bytes": wal_bytes,
            "collections": collections.succeeded,
            "collections_failed": collections.failed,
            "rows_collected": collections.rows_removed,
        });
        Any { type_url: STATISTICS_TYPE.to_owned(), value: text.to_string().into_bytes().into() }
    }
}

fn times(histogram: &Histogram) -> Value {
    json!({
        "count": histogram.count(),
        "half": histogram.quantile(0.5),
        "of_100_99": histogram.quantile(0.99),
        "largest": histogram.largest(),
    })
}
