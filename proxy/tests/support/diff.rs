//! A diff service that remembers what it was asked and answers with one descriptor.

use std::sync::{Arc, Mutex};

use corten_api::containerd::{
    services::diff::v1::{
        ApplyRequest, ApplyResponse, DiffRequest, DiffResponse,
        diff_server::{self, DiffServer},
    },
    types::Descriptor,
};
use tonic::{Request, Response, Status};

#[derive(Clone, Default)]
pub(crate) struct Asked {
    pub(crate) applied: Arc<Mutex<Vec<ApplyRequest>>>,
    pub(crate) compared: Arc<Mutex<Vec<DiffRequest>>>,
}

pub(crate) struct Diff {
    asked: Asked,
    answer: Option<Descriptor>,
}

/// The diff service that answers with `answer`, or with nothing.
pub(crate) fn service(asked: Asked, answer: Option<Descriptor>) -> DiffServer<Diff> {
    DiffServer::new(Diff { asked, answer })
}

#[tonic::async_trait]
impl diff_server::Diff for Diff {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        self.asked.applied.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ApplyResponse { applied: self.answer.clone() }))
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        self.asked.compared.lock().unwrap().push(request.into_inner());
        Ok(Response::new(DiffResponse { diff: self.answer.clone() }))
    }
}
