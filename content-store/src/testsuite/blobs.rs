//! Reading, listing and deleting blobs.

use std::{sync::Arc, time::SystemTime};

use corten_filter::Filters;
use corten_types::{Digest, ErrorKind};

use super::support::{assert_kind, assert_refused, exists, get, pattern, put, sha256};
use crate::{Blob, ContentStore};

pub(super) async fn a_committed_blob_is_read_back(store: &dyn ContentStore) {
    let before = SystemTime::now() - CLOCK_TOLERANCE;
    let info = put(store, b"hello").await;
    assert_eq!(info.digest, sha256(b"hello"));
    assert_eq!(info.size_bytes, 5);
    let known = store.info(&info.digest).await.expect("the blob is known");
    assert_eq!((&known.digest, known.size_bytes), (&info.digest, 5));
    assert!(
        known.created_at >= before && known.created_at <= SystemTime::now() + CLOCK_TOLERANCE,
        "{known:?}"
    );
    assert_eq!(get(store, &info.digest).await, b"hello");
}

/// Timestamps of files come from a clock that ticks a few times in a hundredth of a second.
const CLOCK_TOLERANCE: std::time::Duration = std::time::Duration::from_secs(2);

pub(super) async fn an_empty_blob_can_be_committed_and_read(store: &dyn ContentStore) {
    let info = put(store, b"").await;
    assert_eq!(info.size_bytes, 0);
    let blob = store.open(&info.digest).await.expect("the blob is opened");
    assert_eq!(blob.size_bytes(), 0);
    assert!(blob.read_at(0, 10).await.expect("it is read").is_empty());
    assert!(blob.read_at(5, 10).await.expect("it is read").is_empty());
}

pub(super) async fn reads_end_at_the_end_of_the_blob(store: &dyn ContentStore) {
    let bytes = pattern(10_000);
    let info = put(store, &bytes).await;
    let blob = store.open(&info.digest).await.expect("the blob is opened");
    assert_eq!(blob.size_bytes(), 10_000);
    for (offset, length) in
        [(0, 10_000), (0, 1), (9_999, 1), (5_000, 100), (9_000, 5_000), (0, 0), (4_096, 4_096)]
    {
        let end = (offset + length).min(bytes.len());
        let read = blob.read_at(offset as u64, length).await.expect("it is read");
        assert_eq!(read, bytes[offset..end], "{length} bytes from {offset}");
    }
    assert!(blob.read_at(10_000, 1).await.expect("it is read").is_empty());
    assert!(blob.read_at(u64::from(u32::MAX), 1).await.expect("it is read").is_empty());
}

pub(super) async fn a_large_blob_arrives_whole(store: &dyn ContentStore) {
    let bytes = pattern((9 << 20) + 17);
    let mut ingest = super::support::begin(store, "large").await;
    for chunk in bytes.chunks((1 << 20) + 3) {
        super::support::write(ingest.as_mut(), chunk).await;
    }
    let info = super::support::commit(ingest.as_mut(), &bytes).await.expect("the blob is committed");
    let blob = store.open(&info.digest).await.expect("the blob is opened");
    let mut read = Vec::new();
    while read.len() < bytes.len() {
        let chunk = blob.read_at(read.len() as u64, 3 << 20).await.expect("it is read");
        assert!(!chunk.is_empty(), "the blob ends at {}", read.len());
        read.extend_from_slice(&chunk);
    }
    assert!(read == bytes, "the bytes differ");
}

pub(super) async fn what_does_not_exist_is_not_found(store: &dyn ContentStore) {
    let absent = sha256(b"absent");
    assert_kind(store.info(&absent).await, ErrorKind::NotFound);
    assert_refused(store.open(&absent).await, ErrorKind::NotFound);
    assert_kind(store.delete(&absent).await, ErrorKind::NotFound);
    assert!(store.list(&Filters::all(), None, 10).await.expect("it lists").is_empty());
}

pub(super) async fn blobs_deleted_together_are_answered_for_in_their_order(store: &dyn ContentStore) {
    let (first, second) = (put(store, b"first").await, put(store, b"second").await);
    let kept = put(store, b"kept").await;
    let wanted = [first.digest.clone(), sha256(b"absent"), second.digest.clone(), first.digest.clone()];
    let results = store.delete_all(&wanted).await;
    let kinds: Vec<_> =
        results.iter().map(|result| result.as_ref().err().map(corten_types::Error::kind)).collect();
    let missing = Some(ErrorKind::NotFound);
    assert_eq!(kinds, [None, missing, None, missing]);
    assert!(!exists(store, &first.digest).await && !exists(store, &second.digest).await);
    assert!(exists(store, &kept.digest).await);
    assert!(store.delete_all(&[]).await.is_empty());
}

pub(super) async fn a_deleted_blob_is_gone_and_can_come_again(store: &dyn ContentStore) {
    let info = put(store, b"short-lived").await;
    store.delete(&info.digest).await.expect("it is deleted");
    assert!(!exists(store, &info.digest).await);
    assert!(store.list(&Filters::all(), None, 10).await.expect("it lists").is_empty());
    assert_kind(store.delete(&info.digest).await, ErrorKind::NotFound);
    put(store, b"short-lived").await;
    assert_eq!(get(store, &info.digest).await, b"short-lived");
}

pub(super) async fn an_open_blob_stays_readable_after_its_deletion(store: &dyn ContentStore) {
    let bytes = pattern(200_000);
    let info = put(store, &bytes).await;
    let blob = store.open(&info.digest).await.expect("the blob is opened");
    store.delete(&info.digest).await.expect("it is deleted");
    assert_eq!(blob.read_at(100_000, 100_000).await.expect("it is read"), bytes[100_000..]);
}

async fn put_some(store: &dyn ContentStore, count: u8) -> Vec<Digest> {
    let mut digests = Vec::new();
    for number in 0..count {
        digests.push(put(store, &[number]).await.digest);
    }
    digests.sort();
    digests
}

async fn listed(
    store: &dyn ContentStore,
    filters: &[&str],
    after: Option<&Digest>,
    limit: usize,
) -> Vec<Digest> {
    let filters = Filters::parse(filters).expect("the filter is well-formed");
    let infos = store.list(&filters, after, limit).await.expect("it lists");
    infos.into_iter().map(|info| info.digest).collect()
}

pub(super) async fn blobs_are_listed_in_the_order_of_digests(store: &dyn ContentStore) {
    let digests = put_some(store, 7).await;
    assert_eq!(listed(store, &[], None, 100).await, digests);
    assert_eq!(listed(store, &[""], None, usize::MAX).await, digests);
}

pub(super) async fn a_page_begins_after_the_last_of_the_page_before(store: &dyn ContentStore) {
    let digests = put_some(store, 7).await;
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = listed(store, &[], after.as_ref(), 3).await;
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        pages.extend(page);
    }
    assert_eq!(pages, digests);
    assert!(listed(store, &[], None, 0).await.is_empty());
}

pub(super) async fn filters_look_at_the_digest(store: &dyn ContentStore) {
    let digests = put_some(store, 5).await;
    assert_eq!(listed(store, &[&format!("digest=={}", digests[2])], None, 10).await, digests[2..3]);
    assert_eq!(listed(store, &[&format!("digest!={}", digests[0])], None, 2).await, digests[1..3]);
    let either = [format!("digest~={}", digests[4].hex()), format!("digest=={}", digests[1])];
    assert_eq!(
        listed(store, &[&either[0], &either[1]], None, 10).await,
        [digests[1].clone(), digests[4].clone()]
    );
    assert!(listed(store, &["size==1"], None, 10).await.is_empty());
}

pub(super) async fn many_tasks_read_one_blob(store: &dyn ContentStore) {
    let bytes = Arc::new(pattern(300_000));
    let info = put(store, &bytes).await;
    let blob: Arc<dyn Blob> = store.open(&info.digest).await.expect("the blob is opened");
    let readers: Vec<_> = (0..8_usize)
        .map(|reader| {
            let (blob, bytes) = (Arc::clone(&blob), Arc::clone(&bytes));
            tokio::spawn(async move {
                for step in 0..20 {
                    let offset = (reader * 37_501 + step * 14_983) % bytes.len();
                    let end = (offset + 5_000).min(bytes.len());
                    let read = blob.read_at(offset as u64, 5_000).await.expect("it is read");
                    assert!(read == bytes[offset..end], "the bytes at {offset} differ");
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.expect("the reader ends");
    }
}
