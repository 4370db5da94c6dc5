//! `containerd.services.containers.v1.Containers` (§1.1 of the behaviour table).

use std::time::UNIX_EPOCH;

use corten_api::{
    containerd::services::containers::v1::{
        Container as WireContainer, CreateContainerRequest, CreateContainerResponse, DeleteContainerRequest,
        GetContainerRequest, GetContainerResponse, ListContainerMessage, ListContainersRequest,
        ListContainersResponse, UpdateContainerRequest, UpdateContainerResponse,
        container::Runtime as WireRuntime,
        containers_server::{Containers, ContainersServer},
    },
    convert::{any_from_wire, any_to_wire, timestamp, update_mask},
};
use corten_filter::Filters;
use corten_metadata::{Container, Metadata, Runtime, View};
use corten_types::Result;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tonic::Request;

use super::{
    answer::{Answer, Messages, required, respond, send_all},
    pages::{PAGE_LEN, READ_LEN, all, pages},
    serve,
};
use crate::request::view;

/// Keeps the records of containers.
#[derive(Clone, Debug)]
pub struct ContainersService {
    metadata: Metadata,
}

impl ContainersService {
    /// Over the containers of `metadata`.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> ContainersServer<Self> {
        serve!(ContainersServer, self)
    }
}

#[tonic::async_trait]
impl Containers for ContainersService {
    async fn create(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let wanted = required(request.into_inner().container, "container")?;
            let created = view.containers().create(from_wire(wanted)).await?;
            Ok(CreateContainerResponse { container: Some(to_wire(created)) })
        })
        .await
    }

    async fn delete(&self, request: Request<DeleteContainerRequest>) -> Answer<()> {
        respond(async {
            view(&self.metadata, request.metadata())?.containers().delete(&request.get_ref().id).await
        })
        .await
    }

    async fn get(&self, request: Request<GetContainerRequest>) -> Answer<GetContainerResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let found = view.containers().get(&request.get_ref().id).await?;
            Ok(GetContainerResponse { container: Some(to_wire(found)) })
        })
        .await
    }

    async fn list(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let filters = Filters::parse(&request.get_ref().filters)?;
            Ok(ListContainersResponse { containers: all(listed(view, filters, READ_LEN), to_wire).await? })
        })
        .await
    }

    type ListStreamStream = Messages<ListContainerMessage>;

    async fn list_stream(&self, request: Request<ListContainersRequest>) -> Answer<Self::ListStreamStream> {
        let listing = async {
            let view = view(&self.metadata, request.metadata())?;
            Ok(listed(view, Filters::parse(&request.get_ref().filters)?, PAGE_LEN))
        };
        let pages = respond(listing).await?.into_inner();
        send_all(
            pages
                .map_ok(|page| stream::iter(page.into_iter().map(Ok)))
                .try_flatten()
                .map_ok(|container| ListContainerMessage { container: Some(to_wire(container)) })
                .boxed(),
        )
    }

    async fn update(&self, request: Request<UpdateContainerRequest>) -> Answer<UpdateContainerResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let UpdateContainerRequest { container, update_mask: mask } = request.into_inner();
            let wanted = required(container, "container")?;
            let updated = view.containers().update(from_wire(wanted), &update_mask(mask)).await?;
            Ok(UpdateContainerResponse { container: Some(to_wire(updated)) })
        })
        .await
    }
}

fn listed(view: View, filters: Filters, length: usize) -> impl Stream<Item = Result<Vec<Container>>> {
    pages(
        length,
        move |after: Option<String>| {
            let (containers, filters) = (view.containers(), filters.clone());
            async move { containers.list(&filters, after.as_deref(), length).await }
        },
        |container| container.id.clone(),
    )
}

/// The runtime is always there, also where its options are not (C01).
fn to_wire(container: Container) -> WireContainer {
    WireContainer {
        id: container.id,
        labels: container.labels,
        image: container.image,
        runtime: Some(WireRuntime {
            name: container.runtime.name,
            options: container.runtime.options.map(any_to_wire),
        }),
        spec: container.spec.map(any_to_wire),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: Some(timestamp(container.created_at)),
        updated_at: Some(timestamp(container.updated_at)),
        extensions: container.extensions.into_iter().map(|(key, value)| (key, any_to_wire(value))).collect(),
        sandbox: container.sandbox,
    }
}

/// The times are the store's to say (C04).
fn from_wire(container: WireContainer) -> Container {
    let runtime = container.runtime.unwrap_or_default();
    Container {
        id: container.id,
        labels: container.labels,
        image: container.image,
        runtime: Runtime { name: runtime.name, options: runtime.options.map(any_from_wire) },
        spec: container.spec.map(any_from_wire),
        snapshotter: container.snapshotter,
        snapshot_key: container.snapshot_key,
        created_at: UNIX_EPOCH,
        updated_at: UNIX_EPOCH,
        extensions: container
            .extensions
            .into_iter()
            .map(|(key, value)| (key, any_from_wire(value)))
            .collect(),
        sandbox: container.sandbox,
    }
}
