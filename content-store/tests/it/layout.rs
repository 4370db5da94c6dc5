//! Rows T22 and T23: what other tools read.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use corten_content_store::{BlobReader, CommitOptions, IngestOptions, Ingester};
use corten_types::Algorithm;

use crate::{open, put, sha256};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_ingest_is_a_folder_named_after_the_hash_of_its_key() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let options = IngestOptions { size_bytes: Some(10), ..IngestOptions::default() };
    let mut ingest = store.ingest("default/1/layer", options).await.unwrap();
    ingest.write("abc".into()).await.unwrap();

    let folder = root.path().join("ingest").join(sha256(b"default/1/layer").hex());
    assert_eq!(names(&folder), ["data", "ref", "startedat", "total", "updatedat"]);
    assert_eq!(fs::read(folder.join("data")).unwrap(), b"abc");
    assert_eq!(fs::read(folder.join("ref")).unwrap(), b"default/1/layer");
    assert_eq!(fs::read(folder.join("total")).unwrap(), b"10");
    let started_at = fs::read_to_string(folder.join("startedat")).unwrap();
    assert_eq!(started_at.len(), "2026-01-01T00:00:00.000000000Z".len(), "{started_at}");

    drop(ingest);
    let _unsized = store.ingest("other", IngestOptions::default()).await.unwrap();
    let folder = root.path().join("ingest").join(sha256(b"other").hex());
    assert_eq!(names(&folder), ["data", "ref", "startedat", "updatedat"]);
}

#[tokio::test]
async fn a_blob_is_a_read_only_file_named_after_its_hash() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "k", b"content").await.unwrap();
    let path = root.path().join("blobs/sha256").join(sha256(b"content").hex());
    assert_eq!(fs::read(&path).unwrap(), b"content");
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o444);
    assert_eq!(metadata.modified().unwrap(), store.info(&sha256(b"content")).await.unwrap().created_at);
    assert_eq!(names(&root.path().join("ingest")), [""; 0]);
    assert_eq!(names(&root.path().join("blobs")), Algorithm::ALL.map(Algorithm::name));
}

#[tokio::test]
async fn a_store_is_found_again_with_its_blobs_and_ingests() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "k", b"content").await.unwrap();
    let mut ingest = store.ingest("half", IngestOptions::default()).await.unwrap();
    ingest.write("first ".into()).await.unwrap();
    drop((ingest, store));

    let store = open(root.path());
    assert_eq!(store.root(), root.path());
    assert_eq!(crate::blobs(&store).await, [b"content"]);
    let mut ingest = store.ingest("half", IngestOptions::default()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 6);
    ingest.write("second".into()).await.unwrap();
    let info = ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(info.digest, sha256(b"first second"));
}

#[tokio::test]
async fn the_file_of_a_blob_is_offered_to_readers() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let info = put(&store, "k", b"content").await.unwrap();
    let blob = store.open(&info.digest).await.unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut blob.file().unwrap(), &mut bytes).unwrap();
    assert_eq!(bytes, b"content");
}
