//! Random use, compared with a plain map. proptest shrinks a failure and prints its steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use corten_content_store::{
    BlobReader, BlobWriter, CommitOptions, Ingest, IngestCatalog, IngestOptions, Ingester, LocalStore,
};
use corten_filter::Filters;
use corten_types::ErrorKind;
use proptest::prelude::*;

use crate::{blobs, open, sha256};

const KEYS: [&str; 3] = ["a", "b", "a/b"];

#[derive(Clone, Debug)]
enum Step {
    Open { key: usize, total: Option<u64>, expected: Option<u8> },
    Write { key: usize, bytes: Vec<u8> },
    Truncate { key: usize },
    Close { key: usize },
    Commit { key: usize, wrong_size: bool, wrong_digest: bool },
    Abort { key: usize },
    Delete { content: u8 },
    Reopen,
}

/// Few different bytes, so that writers often make the same blob.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let bytes = prop::collection::vec(0_u8..2, 0..3);
    let step = prop_oneof![
        4 => (key.clone(), prop::option::of(0_u64..4), prop::option::of(0_u8..4))
            .prop_map(|(key, total, expected)| Step::Open { key, total, expected }),
        5 => (key.clone(), bytes).prop_map(|(key, bytes)| Step::Write { key, bytes }),
        1 => key.clone().prop_map(|key| Step::Truncate { key }),
        2 => key.clone().prop_map(|key| Step::Close { key }),
        5 => (key.clone(), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(key, wrong_size, wrong_digest)| Step::Commit { key, wrong_size, wrong_digest }),
        1 => key.prop_map(|key| Step::Abort { key }),
        1 => (0_u8..4).prop_map(|content| Step::Delete { content }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

/// Short contents by number, for steps that name a blob.
fn content(number: u8) -> Vec<u8> {
    vec![number & 1; usize::from(number >> 1)]
}

struct Held {
    ingest: Box<dyn Ingest>,
    bytes: Vec<u8>,
    finished: bool,
    aborted: bool,
}

#[derive(Default)]
struct Model {
    blobs: BTreeSet<Vec<u8>>,
    ingests: BTreeMap<usize, (Vec<u8>, Option<u64>)>,
    held: BTreeMap<usize, Held>,
}

fn kind<T>(result: corten_types::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

impl Model {
    async fn take(&mut self, store: &mut LocalStore, root: &Path, step: Step) {
        match step {
            Step::Open { key, total, expected } => self.open(store, key, total, expected.map(content)).await,
            Step::Commit { key, wrong_size, wrong_digest } => {
                self.commit(key, wrong_size, wrong_digest).await
            }
            Step::Write { key, bytes } => {
                let Some(held) = self.held.get_mut(&key) else { return };
                let result = kind(held.ingest.write(Bytes::from(bytes.clone())).await);
                if held.finished {
                    assert_eq!(result, Some(ErrorKind::FailedPrecondition));
                    return;
                }
                assert_eq!(result, None);
                held.bytes.extend(bytes);
                self.remember(key);
            }
            Step::Truncate { key } => {
                let Some(held) = self.held.get_mut(&key) else { return };
                let result = kind(held.ingest.truncate().await);
                if held.finished {
                    assert_eq!(result, Some(ErrorKind::FailedPrecondition));
                    return;
                }
                assert_eq!(result, None);
                held.bytes.clear();
                self.remember(key);
            }
            Step::Close { key } => drop(self.held.remove(&key)),
            Step::Abort { key } => {
                let result = kind(store.abort(KEYS[key]).await);
                let existed = self.ingests.remove(&key).is_some();
                assert_eq!(result, (!existed).then_some(ErrorKind::NotFound));
                if let Some(held) = self.held.get_mut(&key) {
                    held.aborted = true;
                }
            }
            Step::Delete { content: number } => {
                let result = kind(store.delete(&sha256(&content(number))).await);
                let existed = self.blobs.remove(&content(number));
                assert_eq!(result, (!existed).then_some(ErrorKind::NotFound));
            }
            Step::Reopen => {
                self.held.clear();
                *store = open(root);
            }
        }
    }

    /// What is on the disk is what its holder wrote, unless it was aborted.
    fn remember(&mut self, key: usize) {
        if let (Some(held), Some(ingest)) = (self.held.get(&key), self.ingests.get_mut(&key)) {
            ingest.0.clone_from(&held.bytes);
        }
    }

    async fn open(&mut self, store: &LocalStore, key: usize, total: Option<u64>, expected: Option<Vec<u8>>) {
        let options = IngestOptions { size_bytes: total, expected: expected.as_deref().map(sha256) };
        let result = store.ingest(KEYS[key], options).await;
        if self.held.contains_key(&key) {
            assert_eq!(kind(result), Some(ErrorKind::Unavailable));
            return;
        }
        if expected.is_some_and(|bytes| self.blobs.contains(&bytes)) {
            assert_eq!(kind(result), Some(ErrorKind::AlreadyExists));
            return;
        }
        let ingest = result.unwrap();
        let entry = self.ingests.entry(key).or_insert((Vec::new(), total));
        if total
            .is_some_and(|total| entry.1.is_some_and(|known| known != total) || entry.0.len() as u64 > total)
        {
            *entry = (Vec::new(), total);
        }
        assert_eq!(ingest.status().offset_bytes, entry.0.len() as u64);
        self.held.insert(key, Held { ingest, bytes: entry.0.clone(), finished: false, aborted: false });
    }

    async fn commit(&mut self, key: usize, wrong_size: bool, wrong_digest: bool) {
        let Some(held) = self.held.get_mut(&key) else { return };
        let options = CommitOptions {
            size_bytes: Some(held.bytes.len() as u64 + u64::from(wrong_size)),
            expected: Some(if wrong_digest { sha256(b"something else") } else { sha256(&held.bytes) }),
            ..CommitOptions::default()
        };
        let result = held.ingest.commit(options).await;
        if held.finished || wrong_size || wrong_digest {
            assert_eq!(kind(result), Some(ErrorKind::FailedPrecondition));
        } else if self.blobs.contains(&held.bytes) {
            assert_eq!(kind(result), Some(ErrorKind::AlreadyExists));
            held.finished = true;
            self.ingests.remove(&key);
        } else if held.aborted {
            assert_eq!(kind(result), Some(ErrorKind::NotFound));
        } else {
            assert_eq!(result.unwrap().digest, sha256(&held.bytes));
            held.finished = true;
            self.blobs.insert(held.bytes.clone());
            self.ingests.remove(&key);
        }
    }

    async fn compare(&self, store: &LocalStore) {
        assert_eq!(blobs(store).await, self.blobs.iter().cloned().collect::<Vec<_>>());
        let listed = store.list_ingests(&Filters::all()).await.unwrap();
        let listed: BTreeMap<_, _> =
            listed.into_iter().map(|status| (status.key, status.offset_bytes)).collect();
        let wanted: BTreeMap<_, _> = self
            .ingests
            .iter()
            .map(|(key, (bytes, _))| (KEYS[*key].to_owned(), bytes.len() as u64))
            .collect();
        assert_eq!(listed, wanted);
        for bytes in &self.blobs {
            assert_eq!(store.info(&sha256(bytes)).await.unwrap().size_bytes, bytes.len() as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_behaves_as_a_map_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let root = tempfile::tempdir().unwrap();
            let (mut store, mut model) = (open(root.path()), Model::default());
            for step in steps {
                model.take(&mut store, root.path(), step).await;
                model.compare(&store).await;
            }
        });
    }
}
