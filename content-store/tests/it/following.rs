//! Reading ingests while they are written.

use std::{future::Future, pin::pin, sync::Arc, task::Context, task::Waker, time::Duration};

use bytes::Bytes;
use corten_content_store::{
    BlobReader, CommitOptions, FollowedIngest, Ingest, IngestCatalog, IngestFollower, IngestOptions,
    Ingester, LocalStore,
};
use corten_types::{Error, ErrorKind};

use crate::{open, put, sha256};

struct Scene {
    _root: tempfile::TempDir,
    store: LocalStore,
    ingest: Box<dyn Ingest>,
}

impl Scene {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
        Self { _root: root, store, ingest }
    }

    async fn follow(&self, size_bytes: u64) -> Arc<dyn FollowedIngest> {
        self.store.follow("k", size_bytes).await.unwrap()
    }

    async fn write(&mut self, bytes: &'static str) {
        self.ingest.write(bytes.into()).await.unwrap();
    }
}

fn is_pending(future: impl Future) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

async fn assert_ended(follower: &dyn FollowedIngest, offset_bytes: u64, why: &str) {
    for error in
        [follower.read_at(offset_bytes, 9).await.unwrap_err(), follower.committed().await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn bytes_are_read_as_they_come_and_no_further_than_promised() {
    let mut scene = Scene::new().await;
    scene.write("before").await;
    let follower = scene.follow(8).await;
    assert_eq!(follower.size_bytes(), 8);
    assert!(follower.file().is_none(), "its file has other bytes tomorrow");
    assert_eq!(follower.read_at(1, 100).await.unwrap(), "efore");
    assert!(is_pending(follower.read_at(6, 100)) && is_pending(follower.committed()));
    scene.write("after").await;
    assert_eq!(follower.read_at(6, 100).await.unwrap(), "af");
    assert_eq!(follower.read_at(8, 100).await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_and_the_commit_says_what_it_read() {
    let mut scene = Scene::new().await;
    let follower = scene.follow(6).await;
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        while all.len() < 6 {
            all.extend_from_slice(&follower.read_at(all.len() as u64, 2).await?);
        }
        Ok::<_, Error>((all, follower.committed().await?))
    });
    for piece in ["a", "bc", "def"] {
        scene.write(piece).await;
        tokio::task::yield_now().await;
    }
    scene.ingest.commit(CommitOptions::default()).await.unwrap();
    drop(scene.ingest);
    let (all, digest) =
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap().unwrap().unwrap();
    assert_eq!((all.as_slice(), digest), (&b"abcdef"[..], sha256(b"abcdef")));
}

#[tokio::test]
async fn what_was_committed_is_read_to_its_end() {
    let mut scene = Scene::new().await;
    scene.write("abc").await;
    let follower = scene.follow(3).await;
    scene.ingest.commit(CommitOptions::default()).await.unwrap();
    let late = scene.follow(3).await;
    for follower in [follower, late] {
        assert_eq!(follower.read_at(0, 9).await.unwrap(), "abc");
        assert_eq!(follower.committed().await.unwrap(), sha256(b"abc"));
    }
}

#[tokio::test]
async fn a_blob_that_existed_counts_as_the_commit() {
    let mut scene = Scene::new().await;
    put(&scene.store, "other", b"abc").await.unwrap();
    scene.write("abc").await;
    let follower = scene.follow(3).await;
    let error = scene.ingest.commit(CommitOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(follower.committed().await.unwrap(), sha256(b"abc"));
}

#[tokio::test]
async fn a_commit_that_fails_ends_nothing() {
    let mut scene = Scene::new().await;
    scene.write("abc").await;
    let follower = scene.follow(3).await;
    let wrong = CommitOptions { expected: Some(sha256(b"other")), ..CommitOptions::default() };
    scene.ingest.commit(wrong).await.unwrap_err();
    assert!(is_pending(follower.committed()));
    scene.ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(follower.committed().await.unwrap(), sha256(b"abc"));
}

#[tokio::test]
async fn another_size_than_was_promised_is_data_loss() {
    for (size_bytes, offset_bytes) in [(2, None), (4, Some(3))] {
        let mut scene = Scene::new().await;
        scene.write("abc").await;
        let follower = scene.follow(size_bytes).await;
        scene.ingest.commit(CommitOptions::default()).await.unwrap();
        assert_eq!(follower.committed().await.unwrap_err().kind(), ErrorKind::DataLoss);
        if let Some(offset_bytes) = offset_bytes {
            assert_eq!(follower.read_at(offset_bytes, 9).await.unwrap_err().kind(), ErrorKind::DataLoss);
        }
    }
}

#[tokio::test]
async fn an_abort_ends_those_who_follow_although_the_writer_goes_on() {
    let mut scene = Scene::new().await;
    scene.write("abc").await;
    let follower = scene.follow(9).await;
    scene.store.abort("k").await.unwrap();
    scene.write("def").await;
    assert_ended(&*follower, 0, "was aborted").await;
    assert_eq!(scene.store.follow("k", 9).await.err().unwrap().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_truncation_ends_those_who_follow_and_others_may_follow_what_comes_then() {
    let mut scene = Scene::new().await;
    let early = scene.follow(3).await;
    // Nothing was there to be taken back.
    scene.ingest.truncate().await.unwrap();
    scene.write("abc").await;
    assert_eq!(early.read_at(0, 9).await.unwrap(), "abc");
    scene.ingest.truncate().await.unwrap();
    scene.write("xyz").await;
    assert_ended(&*early, 0, "was begun anew").await;
    assert_eq!(scene.follow(3).await.read_at(0, 9).await.unwrap(), "xyz");
}

#[tokio::test]
async fn a_writer_that_goes_ends_those_who_follow_and_the_next_one_can_be_followed() {
    let mut scene = Scene::new().await;
    scene.write("abc").await;
    let follower = scene.follow(6).await;
    drop(scene.ingest);
    assert_ended(&*follower, 3, "has no writer any more").await;
    assert_eq!(scene.store.follow("k", 6).await.err().unwrap().kind(), ErrorKind::NotFound);
    scene.ingest = scene.store.ingest("k", IngestOptions::default()).await.unwrap();
    let follower = scene.follow(6).await;
    assert_eq!(follower.read_at(0, 9).await.unwrap(), "abc");
    scene.write("def").await;
    assert_eq!(follower.read_at(3, 9).await.unwrap(), "def");
    scene.ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(follower.committed().await.unwrap(), sha256(b"abcdef"));
    assert!(scene.store.info(&sha256(b"abcdef")).await.is_ok());
}
