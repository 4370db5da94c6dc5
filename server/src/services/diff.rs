//! `containerd.services.diff.v1.Diff` (§1.3 of the behaviour table).

use std::sync::Arc;

use corten_api::{
    containerd::services::diff::v1::{
        ApplyRequest, ApplyResponse, DiffRequest, DiffResponse,
        diff_server::{Diff, DiffServer},
    },
    convert::{any_from_wire, system_time},
};
use corten_diff::{Applier, ApplyOptions, CompareOptions, Comparer};
use corten_metadata::Metadata;
use corten_types::{Descriptor, Error, ErrorKind, Mount};
use tonic::Request;

use super::{
    answer::{Answer, required, respond},
    serve,
};
use crate::request::view;

/// Applies and computes layers with the first of its differs that can (D01).
#[derive(Clone)]
pub struct DiffService {
    metadata: Metadata,
    appliers: Vec<Arc<dyn Applier>>,
    comparers: Vec<Arc<dyn Comparer>>,
    sync_fs: bool,
}

impl DiffService {
    /// Without any differ.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata, appliers: Vec::new(), comparers: Vec::new(), sync_fs: false }
    }

    /// Adds what is asked to apply layers after those before it said that they cannot.
    #[must_use]
    pub fn with_applier(mut self, applier: Arc<dyn Applier>) -> Self {
        self.appliers.push(applier);
        self
    }

    /// Adds what is asked to compute layers after those before it said that they cannot.
    #[must_use]
    pub fn with_comparer(mut self, comparer: Arc<dyn Comparer>) -> Self {
        self.comparers.push(comparer);
        self
    }

    /// Flushes filesystems after every layer, also where a request does not ask for it (D03).
    #[must_use]
    pub fn with_sync_fs(mut self, sync_fs: bool) -> Self {
        self.sync_fs = sync_fs;
        self
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> DiffServer<Self> {
        serve!(DiffServer, self)
    }
}

#[tonic::async_trait]
impl Diff for DiffService {
    async fn apply(&self, request: Request<ApplyRequest>) -> Answer<ApplyResponse> {
        respond(async {
            let content = view(&self.metadata, request.metadata())?.content();
            let ApplyRequest { diff, mounts, payloads, sync_fs } = request.into_inner();
            let layer: Descriptor = required(diff, "diff")?.try_into()?;
            let mounts: Vec<Mount> = mounts.into_iter().map(Into::into).collect();
            let options = ApplyOptions {
                sync_fs: sync_fs || self.sync_fs,
                payloads: payloads.into_iter().map(|(key, value)| (key, any_from_wire(value))).collect(),
            };
            for applier in &self.appliers {
                match applier.apply(&content, &layer, &mounts, options.clone()).await {
                    Err(error) if error.kind() == ErrorKind::Unimplemented => {}
                    other => return Ok(ApplyResponse { applied: Some(other?.into()) }),
                }
            }
            Err(Error::unimplemented(format!("no differ applies layers of type {:?}", layer.media_type)))
        })
        .await
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Answer<DiffResponse> {
        respond(async {
            let content = view(&self.metadata, request.metadata())?.content();
            let DiffRequest { left, right, media_type, r#ref, labels, source_date_epoch } =
                request.into_inner();
            let lower: Vec<Mount> = left.into_iter().map(Into::into).collect();
            let upper: Vec<Mount> = right.into_iter().map(Into::into).collect();
            let options = CompareOptions {
                media_type,
                key: r#ref,
                labels,
                source_date_epoch: system_time(source_date_epoch.as_ref()),
            };
            for comparer in &self.comparers {
                match comparer.compare(&content, &lower, &upper, options.clone()).await {
                    Err(error) if error.kind() == ErrorKind::Unimplemented => {}
                    other => return Ok(DiffResponse { diff: Some(other?.into()) }),
                }
            }
            Err(Error::unimplemented(format!("no differ makes layers of type {:?}", options.media_type)))
        })
        .await
    }
}
