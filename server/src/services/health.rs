//! `grpc.health.v1.Health` (row X15).

use std::collections::BTreeMap;

use corten_api::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};
use futures::{StreamExt, stream};
use tonic::{Request, Response, Status};

use super::{
    answer::{Answer, Messages},
    serve,
};

/// Says that the server as a whole serves, which it does whenever it can be asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthService;

impl HealthService {
    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> HealthServer<Self> {
        serve!(HealthServer, self)
    }
}

const SERVING: HealthCheckResponse = HealthCheckResponse { status: ServingStatus::Serving as i32 };
const UNKNOWN: HealthCheckResponse = HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 };

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        let service = &request.get_ref().service;
        if service.is_empty() {
            return Ok(Response::new(SERVING));
        }
        Err(Status::not_found(format!("unknown service {service}")))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Answer<HealthListResponse> {
        Ok(Response::new(HealthListResponse { statuses: BTreeMap::from([(String::new(), SERVING)]) }))
    }

    type WatchStream = Messages<HealthCheckResponse>;

    /// The state never changes, so one message comes and then none, for as long as the client likes.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        let state = if request.get_ref().service.is_empty() { SERVING } else { UNKNOWN };
        Ok(Response::new(Box::pin(stream::iter([Ok(state)]).chain(stream::pending()))))
    }
}
