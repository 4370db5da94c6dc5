//! A snapshotter in another process.

use async_trait::async_trait;
use corten_api::{
    containerd::services::snapshots::v1::{
        CleanupRequest, CommitSnapshotRequest, Info, Kind as WireKind, ListSnapshotsRequest,
        ListSnapshotsResponse, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest,
        StatSnapshotRequest, UpdateSnapshotRequest, UsageRequest, ViewSnapshotRequest,
        snapshots_client::SnapshotsClient,
    },
    containerd::types::Mount as WireMount,
    grpc::from_status,
};
use corten_filter::Filters;
use corten_snapshotter::{Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Usage};
use corten_types::{Error, Labels, Mount, Result, UpdateMask};
use prost_types::FieldMask;
use tonic::transport::Channel;

use crate::{
    Connection, MAX_MESSAGE_BYTES, Scope,
    content::{moment, required, unsigned},
    listing,
};

/// A snapshotter behind a connection, in one namespace. Clones share the connection.
#[derive(Clone, Debug)]
pub struct SnapshotterProxy {
    client: SnapshotsClient<Channel>,
    scope: Scope,
    snapshotter: String,
}

impl SnapshotterProxy {
    /// The snapshotter that the server behind `connection` knows as `snapshotter` (row S01).
    #[must_use]
    pub fn new(connection: &Connection, scope: Scope, snapshotter: &str) -> Self {
        let client = SnapshotsClient::new(connection.channel())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { client, scope, snapshotter: snapshotter.to_owned() }
    }

    fn client(&self) -> SnapshotsClient<Channel> {
        self.client.clone()
    }

    /// The name that goes with every request.
    fn name(&self) -> String {
        self.snapshotter.clone()
    }
}

#[async_trait]
impl SnapshotReader for SnapshotterProxy {
    async fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        let request = StatSnapshotRequest { snapshotter: self.name(), key: key.to_owned() };
        let response = self.client().stat(self.scope.request(request)).await.map_err(from_status)?;
        snapshot_info(required(response.into_inner().info, "info")?)
    }

    /// The protocol knows no pages: each call streams everything that matches.
    async fn list(&self, filters: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<SnapshotInfo>> {
        let request = ListSnapshotsRequest { snapshotter: self.name(), filters: filters.texts().to_vec() };
        let messages =
            self.client().list(self.scope.request(request)).await.map_err(from_status)?.into_inner();
        let read = |message: ListSnapshotsResponse| message.info.into_iter().map(snapshot_info).collect();
        let after = after.map(str::to_owned);
        listing::page(messages, read, |info| info.name.clone(), after.as_ref(), limit).await
    }

    async fn usage(&self, key: &str) -> Result<Usage> {
        let request = UsageRequest { snapshotter: self.name(), key: key.to_owned() };
        let response =
            self.client().usage(self.scope.request(request)).await.map_err(from_status)?.into_inner();
        Ok(Usage {
            size_bytes: unsigned(response.size, "size")?,
            inodes: unsigned(response.inodes, "number of inodes")?,
        })
    }
}

#[async_trait]
impl SnapshotWriter for SnapshotterProxy {
    async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let (key, parent) = (key.to_owned(), parent.to_owned());
        let request = PrepareSnapshotRequest { snapshotter: self.name(), key, parent, labels };
        let response = self.client().prepare(self.scope.request(request)).await.map_err(from_status)?;
        Ok(mounts(response.into_inner().mounts))
    }

    async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let (key, parent) = (key.to_owned(), parent.to_owned());
        let request = ViewSnapshotRequest { snapshotter: self.name(), key, parent, labels };
        let response = self.client().view(self.scope.request(request)).await.map_err(from_status)?;
        Ok(mounts(response.into_inner().mounts))
    }

    async fn commit(&self, name: &str, key: &str, labels: Labels, parent: Option<&str>) -> Result<()> {
        let request = CommitSnapshotRequest {
            snapshotter: self.name(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels,
            parent: parent.unwrap_or_default().to_owned(),
        };
        self.client().commit(self.scope.request(request)).await.map(drop).map_err(from_status)
    }
}

#[async_trait]
impl SnapshotKeeper for SnapshotterProxy {
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let request = MountsRequest { snapshotter: self.name(), key: key.to_owned() };
        let response = self.client().mounts(self.scope.request(request)).await.map_err(from_status)?;
        Ok(mounts(response.into_inner().mounts))
    }

    async fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo> {
        let request = UpdateSnapshotRequest {
            snapshotter: self.name(),
            info: Some(Info { name: key.to_owned(), labels: labels.clone(), ..Info::default() }),
            update_mask: Some(FieldMask { paths: mask.as_slice().to_vec() }),
        };
        let response = self.client().update(self.scope.request(request)).await.map_err(from_status)?;
        snapshot_info(required(response.into_inner().info, "info")?)
    }

    async fn remove(&self, key: &str) -> Result<()> {
        let request = RemoveSnapshotRequest { snapshotter: self.name(), key: key.to_owned() };
        self.client().remove(self.scope.request(request)).await.map(drop).map_err(from_status)
    }

    async fn cleanup(&self) -> Result<()> {
        let request = CleanupRequest { snapshotter: self.name() };
        self.client().cleanup(self.scope.request(request)).await.map(drop).map_err(from_status)
    }
}

fn mounts(mounts: Vec<WireMount>) -> Vec<Mount> {
    mounts.into_iter().map(Mount::from).collect()
}

fn snapshot_info(info: Info) -> Result<SnapshotInfo> {
    let kind = match info.kind() {
        WireKind::View => Kind::View,
        WireKind::Active => Kind::Active,
        WireKind::Committed => Kind::Committed,
        WireKind::Unknown => {
            return Err(Error::internal(format!(
                "the server says of snapshot {:?} no kind that is known",
                info.name
            )));
        }
    };
    Ok(SnapshotInfo {
        kind,
        name: info.name,
        parent: info.parent,
        labels: info.labels,
        created_at: moment(info.created_at),
        updated_at: moment(info.updated_at),
    })
}
