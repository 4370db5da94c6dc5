//! A client that makes images as a pull does: a lease, a blob under it, an image, and the lease goes.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use corten_api::{
    containerd::{
        services::images::v1::{
            CreateImageRequest, DeleteImageRequest, Image, ListImagesRequest, images_client::ImagesClient,
        },
        types::Descriptor,
    },
    grpc::from_status,
};
use corten_content_store::IngestCatalog;
use corten_types::{Labels, Result};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{Client, Depth};
use crate::{
    ledger::{Clock, Ledger},
    session::{Session, bytes_of, commit_options, read_all, reopened, sha256, write},
};

pub(crate) struct Images {
    random: StdRng,
    step: u64,
    leases: Ledger<()>,
    blobs: Ledger<Labels>,
    /// Each with its target.
    images: Ledger<String>,
    /// The blob of each step.
    targets: BTreeMap<u64, String>,
    /// What is sent to each ingest. None is ever certain to be there.
    sent: Ledger<Arc<Vec<u8>>>,
}

impl Images {
    pub(crate) fn new(random: StdRng, clock: &Clock) -> Self {
        Self {
            random,
            step: 0,
            leases: Ledger::new(clock),
            blobs: Ledger::new(clock),
            images: Ledger::new(clock),
            targets: BTreeMap::new(),
            sent: Ledger::new(clock),
        }
    }

    async fn lease(&mut self, session: &Session) -> Result<()> {
        let id = lease_id(self.step);
        self.leases.attempt(&id, Some(()));
        session.create_lease(&id).await?;
        self.leases.acknowledged(&id);
        Ok(())
    }

    async fn put(&mut self, session: &Session, bytes: &[u8]) -> Result<()> {
        let (key, digest) = (format!("layer-{}", self.step), sha256(bytes).to_string());
        self.targets.insert(self.step, digest.clone());
        self.sent.attempt(&key, Some(Arc::new(bytes.to_vec())));
        let store = session.content_under(&lease_id(self.step));
        let mut ingest = write(&store, &key, bytes, bytes.len()).await?;
        self.sent.attempt(&key, None);
        self.blobs.attempt(&digest, Some(Labels::new()));
        ingest.commit(commit_options(bytes, Labels::new())).await?;
        self.blobs.acknowledged(&digest);
        self.sent.acknowledged(&key);
        Ok(())
    }

    async fn create(&mut self, session: &Session, bytes: &[u8]) -> Result<()> {
        let (name, digest) = (image_name(self.step), sha256(bytes).to_string());
        let target = Descriptor {
            media_type: "application/octet-stream".to_owned(),
            digest: digest.clone(),
            size: i64::try_from(bytes.len()).unwrap(),
            ..Descriptor::default()
        };
        let image = Image { name: name.clone(), target: Some(target), ..Image::default() };
        self.images.attempt(&name, Some(digest));
        let request = session.request(CreateImageRequest { image: Some(image), ..Default::default() });
        ImagesClient::new(session.channel()).create(request).await.map_err(from_status)?;
        self.images.acknowledged(&name);
        Ok(())
    }

    /// Deletes a lease. Where its step got no image, its blob may go, and has gone with `sync`.
    async fn end_lease(&mut self, session: &Session, step: u64, sync: bool) -> Result<()> {
        let id = lease_id(step);
        let unused =
            self.targets.get(&step).filter(|_| self.images.get(&image_name(step)).is_none()).cloned();
        if let Some(digest) = &unused {
            self.blobs.release(digest);
        }
        self.leases.attempt(&id, None);
        session.delete_lease(&id, sync).await?;
        self.leases.acknowledged(&id);
        if let Some(digest) = unused.filter(|_| sync) {
            self.blobs.gone(&digest);
        }
        Ok(())
    }

    /// Deletes an image. Its blob may go, and has gone with `sync`.
    async fn delete(&mut self, session: &Session, name: &str, digest: &str, sync: bool) -> Result<()> {
        self.blobs.release(digest);
        self.images.attempt(name, None);
        let request = DeleteImageRequest { name: name.to_owned(), sync, ..DeleteImageRequest::default() };
        let request = session.request(request);
        ImagesClient::new(session.channel()).delete(request).await.map_err(from_status)?;
        self.images.acknowledged(name);
        if sync {
            self.blobs.gone(digest);
        }
        Ok(())
    }
}

fn lease_id(step: u64) -> String {
    format!("lease-{step}")
}

fn image_name(step: u64) -> String {
    format!("localhost/image:{step}")
}

#[async_trait]
impl Client for Images {
    fn namespace(&self) -> String {
        "images".to_owned()
    }

    fn acknowledged(&self) -> u64 {
        self.leases.acknowledged + self.blobs.acknowledged + self.images.acknowledged
    }

    async fn step(&mut self, session: &Session) -> Result<()> {
        self.step += 1;
        let bytes = bytes_of(self.random.random());
        self.lease(session).await?;
        self.put(session, &bytes).await?;
        self.create(session, &bytes).await?;
        let (step, sync) = (self.step, self.random.random_ratio(1, 4));
        self.end_lease(session, step, sync).await?;
        if self.random.random_ratio(1, 2) {
            let (name, digest) = self.images.all().choose(&mut self.random).cloned().unwrap();
            let sync = self.random.random_ratio(1, 2);
            self.delete(session, &name, &digest, sync).await?;
        }
        Ok(())
    }

    async fn check(&mut self, session: &Session, depth: Depth) {
        let store = session.content();
        self.leases.settle("lease", session.leases().await);
        let request = session.request(ListImagesRequest::default());
        let images = ImagesClient::new(session.channel()).list(request).await.unwrap().into_inner().images;
        let images = images.into_iter().map(|image| (image.name, image.target.unwrap().digest)).collect();
        self.images.settle("image", images);
        let blobs = read_all(&store).await;
        for (name, digest) in self.images.seen() {
            assert!(blobs.contains_key(digest), "image {name} is there and its blob {digest} is not");
        }
        self.blobs.settle("blob", blobs);
        for (key, ingest) in reopened(&store, &self.sent, depth == Depth::Cut).await {
            drop(ingest);
            self.sent.attempt(&key, None);
            store.abort(&key).await.unwrap();
            self.sent.acknowledged(&key);
        }
        self.sent.settle("ingest", BTreeMap::new());
        for step in 1..=self.step {
            if self.leases.get(&lease_id(step)).is_some() {
                self.end_lease(session, step, true).await.unwrap();
            }
        }
    }

    async fn clear(&mut self, session: &Session) {
        for (name, digest) in self.images.all() {
            self.delete(session, &name, &digest, false).await.unwrap();
        }
    }
    fn at(&self, position: u64) -> Box<dyn Client> {
        Box::new(Self {
            random: self.random.clone(),
            step: self.step,
            leases: self.leases.at(position),
            blobs: self.blobs.at(position),
            images: self.images.at(position),
            targets: self.targets.clone(),
            sent: self.sent.at(position),
        })
    }

    fn acknowledged_at(&self) -> Vec<u64> {
        [self.leases.acknowledged_at(), self.blobs.acknowledged_at(), self.images.acknowledged_at()].concat()
    }
}
