//! `containerd.services.leases.v1.Leases` (§1.7 of the behaviour table).

use corten_api::{
    containerd::services::leases::v1::{
        AddResourceRequest, CreateRequest, CreateResponse, DeleteRequest, DeleteResourceRequest,
        Lease as WireLease, ListRequest, ListResourcesRequest, ListResourcesResponse, ListResponse,
        Resource as WireResource,
        leases_server::{Leases, LeasesServer},
    },
    convert::timestamp,
};
use corten_filter::Filters;
use corten_metadata::{Lease, Metadata, Resource};
use tonic::Request;

use super::{
    answer::{Answer, required, respond},
    pages::{READ_LEN, all, pages},
    serve,
};
use crate::request::view;

/// Keeps leases.
#[derive(Clone, Debug)]
pub struct LeasesService {
    metadata: Metadata,
}

impl LeasesService {
    /// Over the leases of `metadata`.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> LeasesServer<Self> {
        serve!(LeasesServer, self)
    }
}

#[tonic::async_trait]
impl Leases for LeasesService {
    async fn create(&self, request: Request<CreateRequest>) -> Answer<CreateResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let CreateRequest { id, labels } = request.into_inner();
            let id = (!id.is_empty()).then_some(id.as_str());
            let lease = view.leases().create(id, labels).await?;
            Ok(CreateResponse { lease: Some(to_wire(lease)) })
        })
        .await
    }

    /// With `sync` the answer comes after a collection (L02).
    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<()> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            view.leases().delete(&request.get_ref().id).await?;
            if request.get_ref().sync {
                self.metadata.collect().await?;
            }
            Ok(())
        })
        .await
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let filters = Filters::parse(&request.get_ref().filters)?;
            let listed = pages(
                READ_LEN,
                |after: Option<String>| {
                    let (leases, filters) = (view.leases(), &filters);
                    async move { leases.list(filters, after.as_deref(), READ_LEN).await }
                },
                |lease: &Lease| lease.id.clone(),
            );
            Ok(ListResponse { leases: all(listed, to_wire).await? })
        })
        .await
    }

    async fn add_resource(&self, request: Request<AddResourceRequest>) -> Answer<()> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let AddResourceRequest { id, resource } = request.into_inner();
            view.leases().add_resource(&id, &from_wire(required(resource, "resource")?)).await
        })
        .await
    }

    async fn delete_resource(&self, request: Request<DeleteResourceRequest>) -> Answer<()> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let DeleteResourceRequest { id, resource } = request.into_inner();
            view.leases().delete_resource(&id, &from_wire(required(resource, "resource")?)).await
        })
        .await
    }

    async fn list_resources(&self, request: Request<ListResourcesRequest>) -> Answer<ListResourcesResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let resources = view.leases().list_resources(&request.get_ref().id).await?;
            let to_wire = |resource: Resource| WireResource { id: resource.id, r#type: resource.kind };
            Ok(ListResourcesResponse { resources: resources.into_iter().map(to_wire).collect() })
        })
        .await
    }
}

fn to_wire(lease: Lease) -> WireLease {
    WireLease { id: lease.id, created_at: Some(timestamp(lease.created_at)), labels: lease.labels }
}

fn from_wire(resource: WireResource) -> Resource {
    Resource { kind: resource.r#type, id: resource.id }
}
