//! `containerd.services.sandbox.v1.Store` (SB1-SB3 of the behaviour table).

use std::time::UNIX_EPOCH;

use corten_api::{
    containerd::{
        services::sandbox::v1::{
            StoreCreateRequest, StoreCreateResponse, StoreDeleteRequest, StoreDeleteResponse,
            StoreGetRequest, StoreGetResponse, StoreListRequest, StoreListResponse, StoreUpdateRequest,
            StoreUpdateResponse,
            store_server::{Store, StoreServer},
        },
        types::{Sandbox as WireSandbox, sandbox::Runtime as WireRuntime},
    },
    convert::{any_from_wire, any_to_wire, timestamp},
};
use corten_filter::Filters;
use corten_metadata::{Metadata, Runtime, Sandbox};
use corten_types::UpdateMask;
use tonic::Request;

use super::{
    answer::{Answer, required, respond},
    pages::{READ_LEN, all, pages},
    serve,
};
use crate::request::view;

/// Keeps the records of sandboxes. No event tells of them (SB3).
#[derive(Clone, Debug)]
pub struct SandboxesService {
    metadata: Metadata,
}

impl SandboxesService {
    /// Over the sandboxes of `metadata`.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> StoreServer<Self> {
        serve!(StoreServer, self)
    }
}

#[tonic::async_trait]
impl Store for SandboxesService {
    async fn create(&self, request: Request<StoreCreateRequest>) -> Answer<StoreCreateResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let wanted = required(request.into_inner().sandbox, "sandbox")?;
            let created = view.sandboxes().create(from_wire(wanted)).await?;
            Ok(StoreCreateResponse { sandbox: Some(to_wire(created)) })
        })
        .await
    }

    async fn delete(&self, request: Request<StoreDeleteRequest>) -> Answer<StoreDeleteResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            view.sandboxes().delete(&request.get_ref().sandbox_id).await?;
            Ok(StoreDeleteResponse {})
        })
        .await
    }

    async fn get(&self, request: Request<StoreGetRequest>) -> Answer<StoreGetResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let found = view.sandboxes().get(&request.get_ref().sandbox_id).await?;
            Ok(StoreGetResponse { sandbox: Some(to_wire(found)) })
        })
        .await
    }

    async fn list(&self, request: Request<StoreListRequest>) -> Answer<StoreListResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let filters = Filters::parse(&request.get_ref().filters)?;
            let listed = pages(
                READ_LEN,
                |after: Option<String>| {
                    let (sandboxes, filters) = (view.sandboxes(), &filters);
                    async move { sandboxes.list(filters, after.as_deref(), READ_LEN).await }
                },
                |sandbox: &Sandbox| sandbox.id.clone(),
            );
            Ok(StoreListResponse { list: all(listed, to_wire).await? })
        })
        .await
    }

    /// The mask is a plain list of paths (SB2).
    async fn update(&self, request: Request<StoreUpdateRequest>) -> Answer<StoreUpdateResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let StoreUpdateRequest { sandbox, fields } = request.into_inner();
            let wanted = required(sandbox, "sandbox")?;
            let updated = view.sandboxes().update(from_wire(wanted), &UpdateMask::of(fields)).await?;
            Ok(StoreUpdateResponse { sandbox: Some(to_wire(updated)) })
        })
        .await
    }
}

fn to_wire(sandbox: Sandbox) -> WireSandbox {
    WireSandbox {
        sandbox_id: sandbox.id,
        runtime: Some(WireRuntime {
            name: sandbox.runtime.name,
            options: sandbox.runtime.options.map(any_to_wire),
        }),
        spec: sandbox.spec.map(any_to_wire),
        labels: sandbox.labels,
        created_at: Some(timestamp(sandbox.created_at)),
        updated_at: Some(timestamp(sandbox.updated_at)),
        extensions: sandbox.extensions.into_iter().map(|(key, value)| (key, any_to_wire(value))).collect(),
        sandboxer: sandbox.sandboxer,
    }
}

/// The times are the store's to say (SB1).
fn from_wire(sandbox: WireSandbox) -> Sandbox {
    let runtime = sandbox.runtime.unwrap_or_default();
    Sandbox {
        id: sandbox.sandbox_id,
        labels: sandbox.labels,
        runtime: Runtime { name: runtime.name, options: runtime.options.map(any_from_wire) },
        spec: sandbox.spec.map(any_from_wire),
        sandboxer: sandbox.sandboxer,
        extensions: sandbox.extensions.into_iter().map(|(key, value)| (key, any_from_wire(value))).collect(),
        created_at: UNIX_EPOCH,
        updated_at: UNIX_EPOCH,
    }
}
