//! `containerd.services.namespaces.v1.Namespaces` (§1.9 of the behaviour table).

use corten_api::{
    containerd::services::namespaces::v1::{
        CreateNamespaceRequest, CreateNamespaceResponse, DeleteNamespaceRequest, GetNamespaceRequest,
        GetNamespaceResponse, ListNamespacesRequest, ListNamespacesResponse, Namespace as WireNamespace,
        UpdateNamespaceRequest, UpdateNamespaceResponse,
        namespaces_server::{Namespaces, NamespacesServer},
    },
    convert::update_mask,
};
use corten_metadata::{Metadata, NamespaceInfo};
use tonic::Request;

use super::{
    answer::{Answer, required, respond},
    serve,
};

/// Keeps namespaces. Requests need no namespace of their own.
#[derive(Clone, Debug)]
pub struct NamespacesService {
    metadata: Metadata,
}

impl NamespacesService {
    /// Over the namespaces of `metadata`.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> NamespacesServer<Self> {
        serve!(NamespacesServer, self)
    }
}

#[tonic::async_trait]
impl Namespaces for NamespacesService {
    async fn create(&self, request: Request<CreateNamespaceRequest>) -> Answer<CreateNamespaceResponse> {
        respond(async {
            let wanted = required(request.into_inner().namespace, "namespace")?;
            let name = wanted.name.parse()?;
            let created = self.metadata.namespaces().create(&name, wanted.labels).await?;
            Ok(CreateNamespaceResponse { namespace: Some(to_wire(created)) })
        })
        .await
    }

    async fn delete(&self, request: Request<DeleteNamespaceRequest>) -> Answer<()> {
        respond(async { self.metadata.namespaces().delete(&request.get_ref().name.parse()?).await }).await
    }

    async fn get(&self, request: Request<GetNamespaceRequest>) -> Answer<GetNamespaceResponse> {
        respond(async {
            let found = self.metadata.namespaces().get(&request.get_ref().name.parse()?).await?;
            Ok(GetNamespaceResponse { namespace: Some(to_wire(found)) })
        })
        .await
    }

    /// The filter of the request is not looked at (NS2).
    async fn list(&self, _: Request<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        respond(async {
            let all = self.metadata.namespaces().list().await?;
            Ok(ListNamespacesResponse { namespaces: all.into_iter().map(to_wire).collect() })
        })
        .await
    }

    /// The answer says nothing (NS4).
    async fn update(&self, request: Request<UpdateNamespaceRequest>) -> Answer<UpdateNamespaceResponse> {
        respond(async {
            let UpdateNamespaceRequest { namespace, update_mask: mask } = request.into_inner();
            let wanted = required(namespace, "namespace")?;
            let name = wanted.name.parse()?;
            self.metadata.namespaces().update(&name, &wanted.labels, &update_mask(mask)).await?;
            Ok(UpdateNamespaceResponse::default())
        })
        .await
    }
}

fn to_wire(info: NamespaceInfo) -> WireNamespace {
    WireNamespace { name: info.name.to_string(), labels: info.labels }
}
