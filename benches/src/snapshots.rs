//! The client's side of snapshots and of layers.

use std::collections::BTreeMap;

use corten_api::containerd::{
    services::snapshots::v1::{
        CommitSnapshotRequest, PrepareSnapshotRequest, snapshots_client::SnapshotsClient,
    },
    types::Mount,
};

use tonic::transport::Channel;

use crate::client::Client;

const SNAPSHOTTER: &str = "overlayfs";

impl Client {
    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel())
    }

    pub(crate) async fn prepare(&self, key: &str, parent: &str) -> anyhow::Result<Vec<Mount>> {
        let message = PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..PrepareSnapshotRequest::default()
        };
        Ok(self.snapshots().prepare(self.request(message)).await?.into_inner().mounts)
    }

    /// Commits `key` as `name`; `parent` is given where it was prepared without one.
    pub(crate) async fn commit(
        &self,
        key: &str,
        name: &str,
        parent: &str,
        label: Option<&str>,
    ) -> anyhow::Result<()> {
        let labels: BTreeMap<_, _> =
            label.into_iter().map(|label| (label.to_owned(), "bench".to_owned())).collect();
        let message = CommitSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            name: name.to_owned(),
            parent: parent.to_owned(),
            labels,
        };
        self.snapshots().commit(self.request(message)).await?;
        Ok(())
    }
}
