//! Images and containers as rows: making, changing, removing and listing them.

use std::collections::BTreeMap;

use corten_api::containerd::{
    services::{
        containers::v1::{
            Container, CreateContainerRequest, DeleteContainerRequest, ListContainersRequest,
            UpdateContainerRequest, container, containers_client::ContainersClient,
        },
        images::v1::{
            CreateImageRequest, DeleteImageRequest, Image, ListImagesRequest, UpdateImageRequest,
            images_client::ImagesClient,
        },
    },
    types::Descriptor,
};
use corten_proxy::MAX_MESSAGE_BYTES;
use prost_types::{Any, FieldMask};

use crate::client::{Client, digest_of};

/// As long as the specification of a small container.
const SPEC_BYTES: usize = 4000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Images,
    Containers,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Containers => "containers",
        }
    }

    /// How many rows have this label.
    pub(super) async fn count(self, client: &Client, filter: &str) -> anyhow::Result<usize> {
        let filters = vec![filter.to_owned()];
        Ok(match self {
            Self::Images => {
                let request = client.request(ListImagesRequest { filters });
                let mut service =
                    ImagesClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
                service.list(request).await?.into_inner().images.len()
            }
            Self::Containers => {
                let request = client.request(ListContainersRequest { filters });
                let mut service =
                    ContainersClient::new(client.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
                service.list(request).await?.into_inner().containers.len()
            }
        })
    }
}

/// One image or container.
#[derive(Clone, Debug)]
pub(super) struct Row {
    kind: Kind,
    name: String,
    labels: BTreeMap<String, String>,
}

impl Row {
    pub(super) fn new(kind: Kind, name: &str) -> Self {
        let labels = BTreeMap::from([("bench.step".to_owned(), "made".to_owned())]);
        Self { kind, name: name.to_owned(), labels }
    }

    pub(super) fn with_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(super) async fn create(&self, client: &Client) -> anyhow::Result<()> {
        match self.kind {
            Kind::Images => {
                let message =
                    CreateImageRequest { image: Some(self.image()), ..CreateImageRequest::default() };
                ImagesClient::new(client.channel()).create(client.request(message)).await?;
            }
            Kind::Containers => {
                let message = CreateContainerRequest { container: Some(self.container()) };
                ContainersClient::new(client.channel()).create(client.request(message)).await?;
            }
        }
        Ok(())
    }

    /// Changes its labels.
    pub(super) async fn update(&self, client: &Client) -> anyhow::Result<()> {
        let changed = self.clone().with_label("bench.step", "changed");
        let update_mask = Some(FieldMask { paths: vec!["labels".to_owned()] });
        match self.kind {
            Kind::Images => {
                let image = Some(changed.image());
                let message = UpdateImageRequest { image, update_mask, ..UpdateImageRequest::default() };
                ImagesClient::new(client.channel()).update(client.request(message)).await?;
            }
            Kind::Containers => {
                let message = UpdateContainerRequest { container: Some(changed.container()), update_mask };
                ContainersClient::new(client.channel()).update(client.request(message)).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn delete(&self, client: &Client) -> anyhow::Result<()> {
        match self.kind {
            Kind::Images => {
                let message = DeleteImageRequest { name: self.name.clone(), ..DeleteImageRequest::default() };
                ImagesClient::new(client.channel()).delete(client.request(message)).await?;
            }
            Kind::Containers => {
                let message = DeleteContainerRequest { id: self.name.clone() };
                ContainersClient::new(client.channel()).delete(client.request(message)).await?;
            }
        }
        Ok(())
    }

    fn image(&self) -> Image {
        Image {
            name: self.name.clone(),
            labels: self.labels.clone(),
            target: Some(Descriptor {
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                digest: digest_of(self.name.as_bytes()),
                size: 1000,
                ..Descriptor::default()
            }),
            ..Image::default()
        }
    }

    fn container(&self) -> Container {
        Container {
            id: self.name.clone(),
            labels: self.labels.clone(),
            image: "localhost/big:1".to_owned(),
            runtime: Some(container::Runtime { name: "io.containerd.runc.v2".to_owned(), options: None }),
            spec: Some(Any { type_url: "bench/spec".to_owned(), value: vec![b'x'; SPEC_BYTES] }),
            ..Container::default()
        }
    }
}
