//! A differ in another process.

use async_trait::async_trait;
use corten_api::{
    containerd::services::diff::v1::{ApplyRequest, DiffRequest, diff_client::DiffClient},
    containerd::types::Mount as WireMount,
    convert,
    grpc::from_status,
};
use corten_content_store::{BlobReader, ContentStore};
use corten_diff::{Applier, ApplyOptions, CompareOptions, Comparer};
use corten_types::{Descriptor, Mount, Result};
use tonic::transport::Channel;

use crate::{Connection, MAX_MESSAGE_BYTES, Scope, content::required};

/// The differ behind a connection, in one namespace. Clones share the connection.
///
/// It reads and writes blobs in the content store of its own server; the one that it is handed is not used.
#[derive(Clone, Debug)]
pub struct DiffProxy {
    client: DiffClient<Channel>,
    scope: Scope,
}

impl DiffProxy {
    /// The differ that the server behind `connection` has for `scope`.
    #[must_use]
    pub fn new(connection: &Connection, scope: Scope) -> Self {
        let client = DiffClient::new(connection.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, scope }
    }
}

#[async_trait]
impl Applier for DiffProxy {
    async fn apply(
        &self,
        _content: &dyn BlobReader,
        descriptor: &Descriptor,
        mounts: &[Mount],
        options: ApplyOptions,
    ) -> Result<Descriptor> {
        let payload = |(id, payload)| (id, convert::any_to_wire(payload));
        let request = ApplyRequest {
            diff: Some(descriptor.clone().into()),
            mounts: to_wire(mounts),
            payloads: options.payloads.into_iter().map(payload).collect(),
            sync_fs: options.sync_fs,
        };
        let response = self.client.clone().apply(self.scope.request(request)).await.map_err(from_status)?;
        required(response.into_inner().applied, "descriptor")?.try_into()
    }
}

#[async_trait]
impl Comparer for DiffProxy {
    async fn compare(
        &self,
        _content: &dyn ContentStore,
        lower: &[Mount],
        upper: &[Mount],
        options: CompareOptions,
    ) -> Result<Descriptor> {
        let request = DiffRequest {
            left: to_wire(lower),
            right: to_wire(upper),
            media_type: options.media_type,
            r#ref: options.key,
            labels: options.labels,
            source_date_epoch: options.source_date_epoch.map(convert::timestamp),
        };
        let response = self.client.clone().diff(self.scope.request(request)).await.map_err(from_status)?;
        required(response.into_inner().diff, "descriptor")?.try_into()
    }
}

fn to_wire(mounts: &[Mount]) -> Vec<WireMount> {
    mounts.iter().cloned().map(WireMount::from).collect()
}
