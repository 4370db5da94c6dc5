//! `containerd.services.images.v1.Images` (§1.5 of the behaviour table).

use corten_api::{
    containerd::services::images::v1::{
        CreateImageRequest, CreateImageResponse, DeleteImageRequest, GetImageRequest, GetImageResponse,
        Image as WireImage, ListImagesRequest, ListImagesResponse, UpdateImageRequest, UpdateImageResponse,
        images_server::{Images, ImagesServer},
    },
    convert::{system_time, timestamp, update_mask},
};
use corten_filter::Filters;
use corten_metadata::{Image, Metadata};
use corten_types::{Descriptor, Digest, Result};
use tonic::Request;

use super::{
    answer::{Answer, required, respond},
    pages::{READ_LEN, all, pages},
    serve,
};
use crate::request::view;

/// Keeps the names of content.
#[derive(Clone, Debug)]
pub struct ImagesService {
    metadata: Metadata,
}

impl ImagesService {
    /// Over the images of `metadata`.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> ImagesServer<Self> {
        serve!(ImagesServer, self)
    }
}

#[tonic::async_trait]
impl Images for ImagesService {
    async fn create(&self, request: Request<CreateImageRequest>) -> Answer<CreateImageResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let CreateImageRequest { image, source_date_epoch } = request.into_inner();
            let wanted = from_wire(required(image, "image")?)?;
            let created = view.images().create(wanted, system_time(source_date_epoch.as_ref())).await?;
            Ok(CreateImageResponse { image: Some(to_wire(created)) })
        })
        .await
    }

    /// With `sync` the answer comes after a collection, which begins after the event of the deletion (I05).
    async fn delete(&self, request: Request<DeleteImageRequest>) -> Answer<()> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let DeleteImageRequest { name, sync, target } = request.into_inner();
            let target: Option<Digest> = target.map(|target| target.digest.parse()).transpose()?;
            view.images().delete(&name, target.as_ref()).await?;
            if sync {
                self.metadata.collect().await?;
            }
            Ok(())
        })
        .await
    }

    async fn get(&self, request: Request<GetImageRequest>) -> Answer<GetImageResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let found = view.images().get(&request.get_ref().name).await?;
            Ok(GetImageResponse { image: Some(to_wire(found)) })
        })
        .await
    }

    async fn list(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let filters = Filters::parse(&request.get_ref().filters)?;
            let listed = pages(
                READ_LEN,
                |after: Option<String>| {
                    let (images, filters) = (view.images(), &filters);
                    async move { images.list(filters, after.as_deref(), READ_LEN).await }
                },
                |image: &Image| image.name.clone(),
            );
            Ok(ListImagesResponse { images: all(listed, to_wire).await? })
        })
        .await
    }

    async fn update(&self, request: Request<UpdateImageRequest>) -> Answer<UpdateImageResponse> {
        respond(async {
            let view = view(&self.metadata, request.metadata())?;
            let UpdateImageRequest { image, update_mask: mask, source_date_epoch } = request.into_inner();
            let mask = update_mask(mask);
            let image = required(image, "image")?;
            // A client that changes labels alone need not say what the image names; Go's sends an empty descriptor.
            let names_target = mask.replaces_all() || mask.paths().any(|path| path.field == "target");
            let wanted = if names_target {
                from_wire(image)?
            } else {
                let stored = view.images().get(&image.name).await?;
                Image { labels: image.labels, ..stored }
            };
            let epoch = system_time(source_date_epoch.as_ref());
            let updated = view.images().update(wanted, &mask, epoch).await?;
            Ok(UpdateImageResponse { image: Some(to_wire(updated)) })
        })
        .await
    }
}

fn to_wire(image: Image) -> WireImage {
    WireImage {
        name: image.name,
        labels: image.labels,
        target: Some(image.target.into()),
        created_at: Some(timestamp(image.created_at)),
        updated_at: Some(timestamp(image.updated_at)),
    }
}

/// The times are the store's to say (I02).
fn from_wire(image: WireImage) -> Result<Image> {
    let target: Descriptor = required(image.target, "image target")?.try_into()?;
    Ok(Image { labels: image.labels, ..Image::new(image.name, target) })
}
