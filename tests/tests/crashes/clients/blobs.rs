//! A client that ingests, labels and deletes blobs.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use corten_content_store::BlobWriter;
use corten_proxy::ContentProxy;
use corten_types::{Labels, Result, UpdateMask};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{Client, Depth};
use crate::{
    ledger::{Clock, Ledger},
    session::{Session, bytes_of, commit_options, kept, read_all, reopened, sha256, write},
};

/// So many blobs come and go in all namespaces.
const COMMON: u64 = 6;

pub(crate) struct Blobs {
    namespace: &'static str,
    random: StdRng,
    step: u64,
    ledger: Ledger<Labels>,
    /// What is sent to each ingest. None is ever certain to be there.
    sent: Ledger<Arc<Vec<u8>>>,
}

impl Blobs {
    pub(crate) fn new(namespace: &'static str, random: StdRng, clock: &Clock) -> Self {
        Self { namespace, random, step: 0, ledger: Ledger::new(clock), sent: Ledger::new(clock) }
    }

    async fn put(&mut self, store: &ContentProxy, bytes: Vec<u8>) -> Result<()> {
        let (key, digest, labels) =
            (format!("put-{}", self.step), sha256(&bytes).to_string(), kept(self.step));
        self.sent.attempt(&key, Some(Arc::new(bytes.clone())));
        let mut ingest = write(store, &key, &bytes, bytes.len()).await?;
        self.sent.attempt(&key, None);
        self.ledger.attempt(&digest, Some(labels.clone()));
        ingest.commit(commit_options(&bytes, labels)).await?;
        self.ledger.acknowledged(&digest);
        self.sent.acknowledged(&key);
        Ok(())
    }

    /// Leaves an ingest in the middle.
    async fn begin(&mut self, store: &ContentProxy, bytes: Vec<u8>) -> Result<()> {
        let (key, length) = (format!("begin-{}", self.step), self.random.random_range(0..bytes.len()));
        self.sent.attempt(&key, Some(Arc::new(bytes.clone())));
        write(store, &key, &bytes, length).await.map(drop)
    }

    async fn delete(&mut self, store: &ContentProxy, digest: &str) -> Result<()> {
        self.ledger.attempt(digest, None);
        store.delete(&digest.parse()?).await?;
        self.ledger.acknowledged(digest);
        Ok(())
    }

    async fn label(&mut self, store: &ContentProxy, digest: &str) -> Result<()> {
        let labels = kept(self.step);
        self.ledger.attempt(digest, Some(labels.clone()));
        store.update(&digest.parse()?, &labels, &UpdateMask::replace_all()).await?;
        self.ledger.acknowledged(digest);
        Ok(())
    }

    fn any(&mut self) -> Option<String> {
        self.ledger.all().choose(&mut self.random).map(|(digest, _)| digest.clone())
    }
}

#[async_trait]
impl Client for Blobs {
    fn namespace(&self) -> String {
        self.namespace.to_owned()
    }

    fn acknowledged(&self) -> u64 {
        self.ledger.acknowledged
    }

    async fn step(&mut self, session: &Session) -> Result<()> {
        let store = session.content();
        self.step += 1;
        let new = bytes_of(self.random.random());
        match self.random.random_range(0..10) {
            0..3 => self.put(&store, new).await,
            3..7 => {
                let common = bytes_of(self.random.random_range(0..COMMON));
                let digest = sha256(&common).to_string();
                match self.ledger.get(&digest) {
                    Some(_) => self.delete(&store, &digest).await,
                    None => self.put(&store, common).await,
                }
            }
            7 => self.begin(&store, new).await,
            action => match self.any() {
                Some(digest) if action == 8 => self.label(&store, &digest).await,
                Some(digest) => self.delete(&store, &digest).await,
                None => Ok(()),
            },
        }
    }

    async fn check(&mut self, session: &Session, depth: Depth) {
        let store = session.content();
        self.ledger.settle("blob", read_all(&store).await);
        // What was begun goes on where it was.
        for (key, mut ingest) in reopened(&store, &self.sent, depth == Depth::Cut).await {
            let bytes = Arc::clone(self.sent.possible(&key).unwrap());
            let (digest, labels) = (sha256(&bytes).to_string(), kept(self.step));
            let offset = usize::try_from(ingest.status().offset_bytes).unwrap();
            ingest.write(Bytes::copy_from_slice(&bytes[offset..])).await.unwrap();
            self.ledger.attempt(&digest, Some(labels.clone()));
            self.sent.attempt(&key, None);
            ingest.commit(commit_options(&bytes, labels)).await.unwrap();
            self.ledger.acknowledged(&digest);
            self.sent.acknowledged(&key);
        }
        self.sent.settle("ingest", BTreeMap::new());
    }

    async fn clear(&mut self, session: &Session) {
        for (digest, _) in self.ledger.all() {
            self.delete(&session.content(), &digest).await.unwrap();
        }
    }
    fn at(&self, position: u64) -> Box<dyn Client> {
        Box::new(Self {
            namespace: self.namespace,
            random: self.random.clone(),
            step: self.step,
            ledger: self.ledger.at(position),
            sent: self.sent.at(position),
        })
    }

    fn acknowledged_at(&self) -> Vec<u64> {
        self.ledger.acknowledged_at()
    }
}
