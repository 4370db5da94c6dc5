//! `containerd.services.version.v1.Version` (row V01).

use corten_api::containerd::services::version::v1::{
    VersionResponse,
    version_server::{Version, VersionServer},
};
use tonic::{Request, Response};

use super::{answer::Answer, serve};

/// Tells the version.
#[derive(Clone, Debug)]
pub struct VersionService {
    answer: VersionResponse,
}

impl VersionService {
    /// `version` should look like a semantic version of 2.0 or later behind a `v`: clients decide by it what they use.
    pub fn new(version: impl Into<String>, revision: impl Into<String>) -> Self {
        Self { answer: VersionResponse { version: version.into(), revision: revision.into() } }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> VersionServer<Self> {
        serve!(VersionServer, self)
    }
}

#[tonic::async_trait]
impl Version for VersionService {
    async fn version(&self, _: Request<()>) -> Answer<VersionResponse> {
        Ok(Response::new(self.answer.clone()))
    }
}
