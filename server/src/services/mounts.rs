//! `containerd.services.mounts.v1.Mounts` (§1.8 of the behaviour table).

use corten_api::{
    containerd::{
        services::mounts::v1::{
            ActivateRequest, ActivateResponse, DeactivateRequest, InfoRequest, InfoResponse, ListMessage,
            ListRequest, UpdateRequest, UpdateResponse,
            mounts_server::{Mounts, MountsServer},
        },
        types as wire,
    },
    convert::timestamp,
};
use corten_filter::Filters;
use corten_mount_manager::{ActivateOptions, Activation, Activations, ActiveMount, Scope};
use corten_types::{Error, Mount, Result};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::{Request, metadata::MetadataMap};

use super::{
    answer::{Answer, Messages, respond, send_all},
    pages::{PAGE_LEN, pages},
    serve,
};
use crate::request::{lease, namespace};

/// Activates mounts that clients cannot make by themselves.
#[derive(Clone)]
pub struct MountsService {
    activations: Activations,
}

impl MountsService {
    /// Over `activations`.
    pub fn new(activations: Activations) -> Self {
        Self { activations }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> MountsServer<Self> {
        serve!(MountsServer, self)
    }
}

fn scope(headers: &MetadataMap) -> Result<Scope> {
    Ok(Scope { namespace: namespace(headers)?, lease: lease(headers)? })
}

#[tonic::async_trait]
impl Mounts for MountsService {
    async fn activate(&self, request: Request<ActivateRequest>) -> Answer<ActivateResponse> {
        respond(async {
            let scope = scope(request.metadata())?;
            let ActivateRequest { name, mounts, labels, temporary } = request.into_inner();
            let options = ActivateOptions { labels, temporary, allowed_types: Vec::new() };
            let mounts = mounts.into_iter().map(Mount::from).collect();
            let activation = self.activations.activate(&scope, &name, mounts, options).await?;
            Ok(ActivateResponse { info: Some(to_wire(activation)) })
        })
        .await
    }

    async fn deactivate(&self, request: Request<DeactivateRequest>) -> Answer<()> {
        respond(async {
            self.activations.deactivate(&scope(request.metadata())?, &request.get_ref().name).await
        })
        .await
    }

    async fn info(&self, request: Request<InfoRequest>) -> Answer<InfoResponse> {
        respond(async {
            let scope = scope(request.metadata())?;
            let activation = self.activations.info(&scope, &request.get_ref().name).await?;
            Ok(InfoResponse { info: Some(to_wire(activation)) })
        })
        .await
    }

    type ListStream = Messages<ListMessage>;

    /// One activation a message (M06).
    async fn list(&self, request: Request<ListRequest>) -> Answer<Self::ListStream> {
        let listing = async {
            let (activations, scope) = (self.activations.clone(), scope(request.metadata())?);
            let filters = Filters::parse(&request.get_ref().filters)?;
            Ok(pages(
                PAGE_LEN,
                move |after: Option<String>| {
                    let (activations, scope, filters) = (activations.clone(), scope.clone(), filters.clone());
                    async move { activations.list(&scope, &filters, after.as_deref(), PAGE_LEN).await }
                },
                |activation: &Activation| activation.name.clone(),
            ))
        };
        let pages = respond(listing).await?.into_inner();
        send_all(
            pages
                .map_ok(|page| stream::iter(page.into_iter().map(Ok)))
                .try_flatten()
                .map_ok(|activation| ListMessage { info: Some(to_wire(activation)) })
                .boxed(),
        )
    }

    /// M05.
    async fn update(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        respond(async {
            scope(request.metadata())?;
            Err(Error::unimplemented("activated mounts cannot be updated: deactivate and activate them"))
        })
        .await
    }
}

fn to_wire(activation: Activation) -> wire::ActivationInfo {
    wire::ActivationInfo {
        name: activation.name,
        active: activation.active.into_iter().map(active_to_wire).collect(),
        system: activation.system.into_iter().map(Into::into).collect(),
        labels: activation.labels,
    }
}

fn active_to_wire(active: ActiveMount) -> wire::ActiveMount {
    wire::ActiveMount {
        mount: Some(active.mount.into()),
        mounted_at: Some(timestamp(active.mounted_at)),
        mount_point: active.mount_point,
        data: active.data,
    }
}
