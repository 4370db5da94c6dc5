//! The snapshots service, with one snapshotter called `test`.

use std::sync::Arc;

use corten_api::{
    containerd::services::snapshots::v1::{
        CleanupRequest, CommitSnapshotRequest, Info, Kind as WireKind, ListSnapshotsRequest,
        ListSnapshotsResponse, MountsRequest, MountsResponse, PrepareSnapshotRequest,
        PrepareSnapshotResponse, RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotResponse,
        UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest, UsageResponse, ViewSnapshotRequest,
        ViewSnapshotResponse,
        snapshots_server::{self, SnapshotsServer},
    },
    convert::{timestamp, update_mask},
    grpc::to_status,
};
use corten_filter::Filters;
use corten_snapshotter::{Kind, SnapshotInfo, Snapshotter};
use corten_types::{Error, Mount};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

pub(crate) const NAME: &str = "test";

pub(crate) struct Snapshots {
    snapshotter: Arc<dyn Snapshotter>,
}

/// The snapshots service over `snapshotter`.
pub(crate) fn service(snapshotter: Arc<dyn Snapshotter>) -> SnapshotsServer<Snapshots> {
    SnapshotsServer::new(Snapshots { snapshotter })
}

impl Snapshots {
    /// Row S01.
    fn of(&self, name: &str) -> Result<&dyn Snapshotter, Status> {
        if name != NAME {
            return Err(to_status(Error::invalid_argument(format!("snapshotter not loaded: {name}"))));
        }
        Ok(self.snapshotter.as_ref())
    }
}

fn wire_info(info: SnapshotInfo) -> Info {
    let kind = match info.kind {
        Kind::View => WireKind::View,
        Kind::Active => WireKind::Active,
        Kind::Committed => WireKind::Committed,
    };
    Info {
        name: info.name,
        parent: info.parent,
        kind: kind.into(),
        created_at: Some(timestamp(info.created_at)),
        updated_at: Some(timestamp(info.updated_at)),
        labels: info.labels,
    }
}

fn wire_mounts(mounts: Vec<Mount>) -> Vec<corten_api::containerd::types::Mount> {
    mounts.into_iter().map(Into::into).collect()
}

#[tonic::async_trait]
impl snapshots_server::Snapshots for Snapshots {
    async fn cleanup(&self, request: Request<CleanupRequest>) -> Answer<()> {
        self.of(&request.get_ref().snapshotter)?.cleanup().await.map(Response::new).map_err(to_status)
    }

    async fn commit(&self, request: Request<CommitSnapshotRequest>) -> Answer<()> {
        let CommitSnapshotRequest { snapshotter, name, key, labels, parent } = request.into_inner();
        let parent = (!parent.is_empty()).then_some(parent.as_str());
        self.of(&snapshotter)?.commit(&name, &key, labels, parent).await.map(Response::new).map_err(to_status)
    }

    type ListStream = ReceiverStream<Result<ListSnapshotsResponse, Status>>;

    async fn list(&self, request: Request<ListSnapshotsRequest>) -> Answer<Self::ListStream> {
        let filters = Filters::parse(&request.get_ref().filters).map_err(to_status)?;
        let infos = self.of(&request.get_ref().snapshotter)?.list(&filters, None, usize::MAX).await;
        let infos = infos.map_err(to_status)?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for infos in infos.chunks(2) {
                let info = infos.iter().cloned().map(wire_info).collect();
                if sender.send(Ok(ListSnapshotsResponse { info })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn mounts(&self, request: Request<MountsRequest>) -> Answer<MountsResponse> {
        let mounts = self.of(&request.get_ref().snapshotter)?.mounts(&request.get_ref().key).await;
        Ok(Response::new(MountsResponse { mounts: wire_mounts(mounts.map_err(to_status)?) }))
    }

    async fn prepare(&self, request: Request<PrepareSnapshotRequest>) -> Answer<PrepareSnapshotResponse> {
        let PrepareSnapshotRequest { snapshotter, key, parent, labels } = request.into_inner();
        let mounts = self.of(&snapshotter)?.prepare(&key, &parent, labels).await.map_err(to_status)?;
        Ok(Response::new(PrepareSnapshotResponse { mounts: wire_mounts(mounts) }))
    }

    async fn remove(&self, request: Request<RemoveSnapshotRequest>) -> Answer<()> {
        let snapshotter = self.of(&request.get_ref().snapshotter)?;
        snapshotter.remove(&request.get_ref().key).await.map(Response::new).map_err(to_status)
    }

    async fn stat(&self, request: Request<StatSnapshotRequest>) -> Answer<StatSnapshotResponse> {
        let info = self.of(&request.get_ref().snapshotter)?.stat(&request.get_ref().key).await;
        Ok(Response::new(StatSnapshotResponse { info: Some(wire_info(info.map_err(to_status)?)) }))
    }

    async fn update(&self, request: Request<UpdateSnapshotRequest>) -> Answer<UpdateSnapshotResponse> {
        let UpdateSnapshotRequest { snapshotter, info, update_mask: mask } = request.into_inner();
        let info = info.unwrap_or_default();
        let updated = self.of(&snapshotter)?.update(&info.name, &info.labels, &update_mask(mask)).await;
        Ok(Response::new(UpdateSnapshotResponse { info: Some(wire_info(updated.map_err(to_status)?)) }))
    }

    async fn usage(&self, request: Request<UsageRequest>) -> Answer<UsageResponse> {
        let usage = self.of(&request.get_ref().snapshotter)?.usage(&request.get_ref().key).await;
        let usage = usage.map_err(to_status)?;
        Ok(Response::new(UsageResponse { size: usage.size_bytes as i64, inodes: usage.inodes as i64 }))
    }

    async fn view(&self, request: Request<ViewSnapshotRequest>) -> Answer<ViewSnapshotResponse> {
        let ViewSnapshotRequest { snapshotter, key, parent, labels } = request.into_inner();
        let mounts = self.of(&snapshotter)?.view(&key, &parent, labels).await.map_err(to_status)?;
        Ok(Response::new(ViewSnapshotResponse { mounts: wire_mounts(mounts) }))
    }
}
