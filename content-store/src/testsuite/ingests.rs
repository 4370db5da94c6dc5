//! From the first byte to the commit (rows T06 to T18).

use std::time::SystemTime;

use bytes::Bytes;
use corten_filter::Filters;
use corten_types::ErrorKind;

use super::support::{
    assert_kind, assert_refused, begin, begin_when_free, begin_with, commit, exists, get, put, sha256, write,
};
use crate::{CommitOptions, ContentStore, IngestOptions};

/// More than any disk holds, and still a number that a wire with 64 bits and a sign carries.
const TOO_MUCH_BYTES: u64 = 1 << 62;

fn sized(size_bytes: u64) -> IngestOptions {
    IngestOptions { size_bytes: Some(size_bytes), ..IngestOptions::default() }
}

async fn keys(store: &dyn ContentStore, filters: &[&str]) -> Vec<String> {
    let filters = Filters::parse(filters).expect("the filter is well-formed");
    store.list_ingests(&filters).await.expect("it lists").into_iter().map(|status| status.key).collect()
}

pub(super) async fn bytes_are_invisible_until_the_commit(store: &dyn ContentStore) {
    let digest = sha256(b"soon");
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"soon").await;
    assert!(!exists(store, &digest).await);
    assert_refused(store.open(&digest).await, ErrorKind::NotFound);
    assert!(store.list(&Filters::all(), None, 10).await.expect("it lists").is_empty());
    commit(ingest.as_mut(), b"soon").await.expect("it is committed");
    assert_eq!(get(store, &digest).await, b"soon");
    assert_eq!(keys(store, &[]).await, [""; 0], "a committed ingest is no ingest");
}

pub(super) async fn pieces_are_appended_in_their_order(store: &dyn ContentStore) {
    // More than the system takes at once, and large enough to be hashed apart.
    let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut ingest = begin(store, "k").await;
    ingest.write_pieces(Vec::new()).await.expect("nothing is written");
    ingest.write_pieces(vec![Bytes::new(), Bytes::new()]).await.expect("nothing is written, in pieces");
    assert_eq!(ingest.status().offset_bytes, 0);
    write(ingest.as_mut(), b"first ").await;
    let mut pieces: Vec<Bytes> = text.chunks(300).map(Bytes::copy_from_slice).collect();
    pieces.insert(1, Bytes::new());
    ingest.write_pieces(pieces).await.expect("they are written");
    ingest.write_pieces(vec![Bytes::from_static(b" last")]).await.expect("it is written");
    let whole = [b"first ", &text[..], b" last"].concat();
    assert_eq!(ingest.status().offset_bytes, whole.len() as u64);
    assert_eq!(ingest.digest().await.expect("a digest"), sha256(&whole));
    commit(ingest.as_mut(), &whole).await.expect("it is committed");
    assert_eq!(get(store, &sha256(&whole)).await, whole);
}

pub(super) async fn a_second_writer_of_a_key_is_told_to_come_back(store: &dyn ContentStore) {
    let mut first = begin(store, "k").await;
    write(first.as_mut(), b"first").await;
    let error = store.ingest("k", IngestOptions::default()).await.map(drop).expect_err("the key is held");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("locked for"), "clients look for these words: {error:?}");
    let mut other = begin(store, "other").await;
    write(other.as_mut(), b"other").await;
    commit(first.as_mut(), b"first").await.expect("the first was not disturbed");
    commit(other.as_mut(), b"other").await.expect("another key is free");
}

pub(super) async fn a_key_is_free_after_its_writer_is_dropped(store: &dyn ContentStore) {
    for content in ["one", "two"] {
        let mut ingest = begin_when_free(store, "k", IngestOptions::default()).await;
        assert_eq!(ingest.status().offset_bytes, 0);
        write(ingest.as_mut(), content.as_bytes()).await;
        commit(ingest.as_mut(), content.as_bytes()).await.expect("it is committed");
    }
}

pub(super) async fn a_dropped_ingest_goes_on_where_it_was(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"abc").await;
    let started_at = ingest.status().started_at;
    drop(ingest);
    let mut ingest = begin_when_free(store, "k", IngestOptions::default()).await;
    let status = ingest.status();
    assert_eq!(status.key, "k");
    assert_eq!(status.offset_bytes, 3);
    assert_eq!(status.started_at, started_at);
    write(ingest.as_mut(), b"def").await;
    let info = commit(ingest.as_mut(), b"abcdef").await.expect("it is committed");
    assert_eq!(get(store, &info.digest).await, b"abcdef");
}

pub(super) async fn another_total_begins_anew(store: &dyn ContentStore) {
    let mut ingest = begin_with(store, "k", sized(6)).await;
    write(ingest.as_mut(), b"abc").await;
    drop(ingest);
    let mut ingest = begin_when_free(store, "k", sized(4)).await;
    assert_eq!(ingest.status().offset_bytes, 0);
    write(ingest.as_mut(), b"wxyz").await;
    commit(ingest.as_mut(), b"wxyz").await.expect("it is committed");
}

pub(super) async fn the_same_total_goes_on(store: &dyn ContentStore) {
    let mut ingest = begin_with(store, "k", sized(6)).await;
    write(ingest.as_mut(), b"abc").await;
    drop(ingest);
    let ingest = begin_when_free(store, "k", IngestOptions::default()).await;
    assert_eq!(ingest.status().offset_bytes, 3, "no total is no other total");
    drop(ingest);
    let mut ingest = begin_when_free(store, "k", sized(6)).await;
    assert_eq!(ingest.status().offset_bytes, 3);
    assert_eq!(ingest.status().total_bytes, Some(6));
    write(ingest.as_mut(), b"def").await;
    commit(ingest.as_mut(), b"abcdef").await.expect("it is committed");
}

pub(super) async fn truncating_throws_every_byte_away(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"wrong").await;
    ingest.truncate().await.expect("it is truncated");
    assert_eq!(ingest.status().offset_bytes, 0);
    write(ingest.as_mut(), b"right").await;
    assert_eq!(ingest.status().offset_bytes, 5);
    let info = commit(ingest.as_mut(), b"right").await.expect("it is committed");
    assert_eq!(get(store, &info.digest).await, b"right");
}

pub(super) async fn an_ingest_needs_a_key(store: &dyn ContentStore) {
    assert_refused(store.ingest("", IngestOptions::default()).await, ErrorKind::InvalidArgument);
}

pub(super) async fn keys_may_hold_anything(store: &dyn ContentStore) {
    let keys_in_order = ["..", "/", "a b", "a/b", "layer-sha256:1", "ä\n\"", &"x".repeat(1000)];
    for key in keys_in_order {
        let mut ingest = begin(store, key).await;
        write(ingest.as_mut(), key.as_bytes()).await;
    }
    let mut sorted = keys_in_order;
    sorted.sort_unstable();
    assert_eq!(keys(store, &[]).await, sorted);
    for key in keys_in_order {
        let mut ingest = begin_when_free(store, key, IngestOptions::default()).await;
        assert_eq!(ingest.status().offset_bytes, key.len() as u64);
        commit(ingest.as_mut(), key.as_bytes()).await.expect("it is committed");
    }
}

pub(super) async fn the_state_of_an_ingest_is_known(store: &dyn ContentStore) {
    let before = SystemTime::now() - std::time::Duration::from_secs(2);
    let mut ingest = begin_with(store, "k", sized(10)).await;
    write(ingest.as_mut(), b"abcd").await;
    let held = ingest.status();
    assert_eq!((held.key.as_str(), held.offset_bytes, held.total_bytes), ("k", 4, Some(10)));
    let seen = store.ingest_status("k").await.expect("it is known");
    assert_eq!((seen.key.as_str(), seen.offset_bytes, seen.total_bytes), ("k", 4, Some(10)));
    assert!(seen.started_at >= before && seen.updated_at >= seen.started_at, "{seen:?}");
    drop(ingest);
    let seen = store.ingest_status("k").await.expect("a dropped ingest is known");
    assert_eq!(seen.offset_bytes, 4);
}

pub(super) async fn ingests_are_listed_in_the_order_of_keys(store: &dyn ContentStore) {
    for key in ["b", "c", "a"] {
        begin(store, key).await;
    }
    assert_eq!(keys(store, &[]).await, ["a", "b", "c"]);
}

pub(super) async fn filters_look_at_the_key(store: &dyn ContentStore) {
    for key in ["layer-1", "layer-2", "config-1"] {
        begin(store, key).await;
    }
    assert_eq!(keys(store, &["ref~=^layer"]).await, ["layer-1", "layer-2"]);
    assert_eq!(keys(store, &["ref==layer-1", "ref==config-1"]).await, ["config-1", "layer-1"]);
    assert_eq!(keys(store, &["key==layer-1"]).await, [""; 0]);
}

pub(super) async fn an_absent_ingest_is_not_found(store: &dyn ContentStore) {
    assert_kind(store.ingest_status("absent").await, ErrorKind::NotFound);
    assert_kind(store.abort("absent").await, ErrorKind::NotFound);
    assert_eq!(keys(store, &[]).await, [""; 0]);
}

pub(super) async fn an_aborted_ingest_is_gone(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"abc").await;
    drop(ingest);
    // A store in another process may still be closing it; once it can be had again, it is closed.
    let held = begin_when_free(store, "k", IngestOptions::default()).await;
    store.abort("k").await.expect("it is aborted");
    assert_kind(store.ingest_status("k").await, ErrorKind::NotFound);
    assert_kind(store.abort("k").await, ErrorKind::NotFound);
    drop(held);
    let ingest = begin_when_free(store, "k", IngestOptions::default()).await;
    assert_eq!(ingest.status().offset_bytes, 0);
}

pub(super) async fn an_ingest_can_be_aborted_while_it_is_held(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"abc").await;
    store.abort("k").await.expect("it is aborted");
    assert_kind(store.ingest_status("k").await, ErrorKind::NotFound);
    assert!(commit(ingest.as_mut(), b"abc").await.is_err(), "an aborted ingest was committed");
    assert!(!exists(store, &sha256(b"abc")).await);
    drop(ingest);
    let ingest = begin_when_free(store, "k", IngestOptions::default()).await;
    assert_eq!(ingest.status().offset_bytes, 0);
}

pub(super) async fn an_expected_blob_that_exists_is_refused_at_once(store: &dyn ContentStore) {
    let info = put(store, b"known").await;
    let options = IngestOptions { expected: Some(info.digest), ..IngestOptions::default() };
    assert_refused(store.ingest("k", options).await, ErrorKind::AlreadyExists);
    assert_kind(store.ingest_status("k").await, ErrorKind::NotFound);
    begin_when_free(store, "k", IngestOptions::default()).await;
}

pub(super) async fn a_commit_of_an_existing_blob_removes_the_ingest(store: &dyn ContentStore) {
    put(store, b"known").await;
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"known").await;
    assert_kind(commit(ingest.as_mut(), b"known").await, ErrorKind::AlreadyExists);
    assert_kind(store.ingest_status("k").await, ErrorKind::NotFound);
    assert_eq!(get(store, &sha256(b"known")).await, b"known");
}

pub(super) async fn of_two_writers_of_the_same_bytes_one_commits(store: &dyn ContentStore) {
    let mut first = begin(store, "first").await;
    let mut second = begin(store, "second").await;
    write(first.as_mut(), b"same").await;
    write(second.as_mut(), b"same").await;
    commit(second.as_mut(), b"same").await.expect("it is committed");
    assert_kind(commit(first.as_mut(), b"same").await, ErrorKind::AlreadyExists);
    assert_eq!(get(store, &sha256(b"same")).await, b"same");
    assert_eq!(keys(store, &[]).await, [""; 0]);
}

pub(super) async fn a_wrong_digest_keeps_the_ingest(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"abc").await;
    let options = CommitOptions { expected: Some(sha256(b"abcdef")), ..CommitOptions::default() };
    assert_kind(ingest.commit(options).await, ErrorKind::FailedPrecondition);
    drop(ingest);
    assert!(!exists(store, &sha256(b"abc")).await);
    let mut ingest = begin_when_free(store, "k", IngestOptions::default()).await;
    assert_eq!(ingest.status().offset_bytes, 3);
    write(ingest.as_mut(), b"def").await;
    commit(ingest.as_mut(), b"abcdef").await.expect("it is committed");
}

pub(super) async fn a_wrong_size_keeps_the_ingest(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"abc").await;
    let options = CommitOptions { size_bytes: Some(4), ..CommitOptions::default() };
    assert_kind(ingest.commit(options).await, ErrorKind::FailedPrecondition);
    drop(ingest);
    let mut ingest = begin_when_free(store, "k", IngestOptions::default()).await;
    assert_eq!(ingest.status().offset_bytes, 3);
    commit(ingest.as_mut(), b"abc").await.expect("it is committed");
}

pub(super) async fn a_finished_ingest_takes_nothing(store: &dyn ContentStore) {
    let mut ingest = begin(store, "k").await;
    write(ingest.as_mut(), b"abc").await;
    commit(ingest.as_mut(), b"abc").await.expect("it is committed");
    assert!(ingest.write(Bytes::from_static(b"def")).await.is_err());
    assert!(ingest.truncate().await.is_err());
    assert!(commit(ingest.as_mut(), b"abc").await.is_err());
    assert_eq!(get(store, &sha256(b"abc")).await, b"abc", "the blob changed");
}

pub(super) async fn a_size_that_no_disk_holds_is_refused(store: &dyn ContentStore) {
    let ingest = store.ingest("k", sized(TOO_MUCH_BYTES)).await;
    assert_refused(ingest, ErrorKind::ResourceExhausted);
    assert_kind(store.ingest_status("k").await, ErrorKind::NotFound);
    let mut ingest = begin_when_free(store, "k", sized(3)).await;
    write(ingest.as_mut(), b"abc").await;
    commit(ingest.as_mut(), b"abc").await.expect("it is committed");
}
