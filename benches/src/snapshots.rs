//! The client's side of snapshots and of layers.

use std::collections::BTreeMap;

use anyhow::Context;
use corten_api::containerd::{
    services::{
        diff::v1::{ApplyRequest, DiffRequest, diff_client::DiffClient},
        introspection::v1::{PluginsRequest, introspection_client::IntrospectionClient},
        snapshots::v1::{
            CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, ViewSnapshotRequest,
            snapshots_client::SnapshotsClient,
        },
    },
    types::{Descriptor, Mount},
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

    pub(crate) async fn view(&self, key: &str, parent: &str) -> anyhow::Result<Vec<Mount>> {
        let message = ViewSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..ViewSnapshotRequest::default()
        };
        Ok(self.snapshots().view(self.request(message)).await?.into_inner().mounts)
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

    pub(crate) async fn remove(&self, key: &str) -> anyhow::Result<()> {
        let message = RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        self.snapshots().remove(self.request(message)).await?;
        Ok(())
    }

    /// Unpacks a layer and returns the digest of what was in it.
    pub(crate) async fn apply(&self, layer: Descriptor, mounts: Vec<Mount>) -> anyhow::Result<String> {
        let message = ApplyRequest { diff: Some(layer), mounts, ..ApplyRequest::default() };
        let response = DiffClient::new(self.channel()).apply(self.request(message)).await?.into_inner();
        Ok(response.applied.context("the server says nothing of what it applied")?.digest)
    }

    /// Makes a layer of what is in `right` and not in `left`.
    pub(crate) async fn compare(
        &self,
        left: Vec<Mount>,
        right: Vec<Mount>,
        media_type: &str,
    ) -> anyhow::Result<Descriptor> {
        let message =
            DiffRequest { left, right, media_type: media_type.to_owned(), ..DiffRequest::default() };
        let response = DiffClient::new(self.channel()).diff(self.request(message)).await?.into_inner();
        response.diff.context("the server says nothing of the layer")
    }

    /// Whether snapshots may be prepared without their parent, which is then named when they are committed.
    pub(crate) async fn rebases(&self) -> anyhow::Result<bool> {
        let message =
            PluginsRequest { filters: vec![format!("type==io.containerd.snapshotter.v1,id=={SNAPSHOTTER}")] };
        let response =
            IntrospectionClient::new(self.channel()).plugins(self.request(message)).await?.into_inner();
        Ok(response
            .plugins
            .iter()
            .flat_map(|plugin| &plugin.capabilities)
            .any(|capability| capability == "rebase"))
    }
}
