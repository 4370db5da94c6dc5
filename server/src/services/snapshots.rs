//! `containerd.services.snapshots.v1.Snapshots` (§1.11 of the behaviour table).

use corten_api::{
    containerd::services::snapshots::v1::{
        CleanupRequest, CommitSnapshotRequest, Info, Kind as WireKind, ListSnapshotsRequest,
        ListSnapshotsResponse, MountsRequest, MountsResponse, PrepareSnapshotRequest,
        PrepareSnapshotResponse, RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse,
        UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest,
        ViewSnapshotResponse,
        snapshots_server::{Snapshots, SnapshotsServer},
    },
    convert::{timestamp, update_mask},
};
use corten_filter::Filters;
use corten_metadata::{Metadata, Snapshots as Stored};
use corten_snapshotter::{Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_types::Result;
use futures::TryStreamExt;
use tonic::{Request, metadata::MetadataMap};

use super::{
    answer::{Answer, Messages, finish, required, respond, send_all},
    pages::{PAGE_LEN, pages},
    serve,
};
use crate::request::view;

/// Keeps snapshots, in the snapshotter that each request names (S01).
#[derive(Clone, Debug)]
pub struct SnapshotsService {
    metadata: Metadata,
}

impl SnapshotsService {
    /// Over the snapshotters of `metadata`.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> SnapshotsServer<Self> {
        serve!(SnapshotsServer, self)
    }

    fn stored(&self, headers: &MetadataMap, snapshotter: &str) -> Result<Stored> {
        view(&self.metadata, headers)?.snapshots(snapshotter)
    }
}

#[tonic::async_trait]
impl Snapshots for SnapshotsService {
    async fn cleanup(&self, request: Request<CleanupRequest>) -> Answer<()> {
        let stored = self.stored(request.metadata(), &request.get_ref().snapshotter);
        finish(async move { stored?.cleanup().await }).await
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Answer<()> {
        let stored = self.stored(request.metadata(), &request.get_ref().snapshotter);
        let CommitSnapshotRequest { name, key, labels, parent, .. } = request.into_inner();
        finish(async move {
            let parent = (!parent.is_empty()).then_some(parent.as_str());
            stored?.commit(&name, &key, labels, parent).await
        })
        .await
    }

    type ListStream = Messages<ListSnapshotsResponse>;

    async fn list(&self, request: Request<ListSnapshotsRequest>) -> Answer<Self::ListStream> {
        let listing = async {
            let stored = self.stored(request.metadata(), &request.get_ref().snapshotter)?;
            let filters = Filters::parse(&request.get_ref().filters)?;
            Ok(pages(
                PAGE_LEN,
                move |after: Option<String>| {
                    let (stored, filters) = (stored.clone(), filters.clone());
                    async move { stored.list(&filters, after.as_deref(), PAGE_LEN).await }
                },
                |snapshot: &SnapshotInfo| snapshot.name.clone(),
            ))
        };
        let pages = respond(listing).await?.into_inner();
        send_all(pages.map_ok(|page| ListSnapshotsResponse { info: page.into_iter().map(to_wire).collect() }))
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Answer<MountsResponse> {
        respond(async {
            let stored = self.stored(request.metadata(), &request.get_ref().snapshotter)?;
            let mounts = stored.mounts(&request.get_ref().key).await?;
            Ok(MountsResponse { mounts: mounts.into_iter().map(Into::into).collect() })
        })
        .await
    }

    async fn prepare(&self, request: Request<PrepareSnapshotRequest>) -> Answer<PrepareSnapshotResponse> {
        let stored = self.stored(request.metadata(), &request.get_ref().snapshotter);
        let PrepareSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        finish(async move {
            let mounts = stored?.prepare(&key, &parent, labels).await?;
            Ok(PrepareSnapshotResponse { mounts: mounts.into_iter().map(Into::into).collect() })
        })
        .await
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Answer<()> {
        let stored = self.stored(request.metadata(), &request.get_ref().snapshotter);
        let RemoveSnapshotRequest { key, .. } = request.into_inner();
        finish(async move { stored?.remove(&key).await }).await
    }

    async fn stat(&self, request: Request<StatSnapshotRequest>) -> Answer<StatSnapshotResponse> {
        respond(async {
            let stored = self.stored(request.metadata(), &request.get_ref().snapshotter)?;
            Ok(StatSnapshotResponse { info: Some(to_wire(stored.stat(&request.get_ref().key).await?)) })
        })
        .await
    }

    async fn update(&self, request: Request<UpdateSnapshotRequest>) -> Answer<UpdateSnapshotResponse> {
        let stored = self.stored(request.metadata(), &request.get_ref().snapshotter);
        let UpdateSnapshotRequest { info, update_mask: mask, .. } = request.into_inner();
        finish(async move {
            let wanted = required(info, "info")?;
            let updated = stored?.update(&wanted.name, &wanted.labels, &update_mask(mask)).await?;
            Ok(UpdateSnapshotResponse { info: Some(to_wire(updated)) })
        })
        .await
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Answer<UsageResponse> {
        respond(async {
            let stored = self.stored(request.metadata(), &request.get_ref().snapshotter)?;
            let usage = stored.usage(&request.get_ref().key).await?;
            Ok(UsageResponse {
                size: i64::try_from(usage.size_bytes).unwrap_or(i64::MAX),
                inodes: i64::try_from(usage.inodes).unwrap_or(i64::MAX),
            })
        })
        .await
    }

    async fn view(&self, request: Request<ViewSnapshotRequest>) -> Answer<ViewSnapshotResponse> {
        let stored = self.stored(request.metadata(), &request.get_ref().snapshotter);
        let ViewSnapshotRequest { key, parent, labels, .. } = request.into_inner();
        finish(async move {
            let mounts = stored?.view(&key, &parent, labels).await?;
            Ok(ViewSnapshotResponse { mounts: mounts.into_iter().map(Into::into).collect() })
        })
        .await
    }
}

fn to_wire(snapshot: SnapshotInfo) -> Info {
    let kind = match snapshot.kind {
        Kind::View => WireKind::View,
        Kind::Active => WireKind::Active,
        Kind::Committed => WireKind::Committed,
    };
    Info {
        name: snapshot.name,
        parent: snapshot.parent,
        kind: kind.into(),
        created_at: Some(timestamp(snapshot.created_at)),
        updated_at: Some(timestamp(snapshot.updated_at)),
        labels: snapshot.labels,
    }
}
