//! What crashes, other programs and broken disks leave behind.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use corten_content_store::{BlobReader, CommitOptions, IngestCatalog, IngestOptions, Ingester};
use corten_filter::Filters;
use corten_types::ErrorKind;
use proptest::prelude::*;

use crate::{blobs, open, put, sha256};

const FILES: [&str; 5] = ["data", "ref", "startedat", "updatedat", "total"];

/// A store with one ingest `k` of `abc`, whose folder is returned.
async fn half_done(root: &Path) -> PathBuf {
    let store = open(root);
    let options = IngestOptions { size_bytes: Some(6), ..IngestOptions::default() };
    let mut ingest = store.ingest("k", options).await.unwrap();
    ingest.write("abc".into()).await.unwrap();
    root.join("ingest").join(sha256(b"k").hex())
}

/// Looks at everything, and then carries the ingest through.
async fn still_works(root: &Path) {
    let store = open(root);
    for status in store.list_ingests(&Filters::all()).await.unwrap() {
        assert_eq!(store.ingest_status(&status.key).await.unwrap(), status);
    }
    let _either_way = store.ingest_status("k").await;
    put(&store, "k", b"abcdef").await.unwrap();
    assert_eq!(blobs(&store).await, [b"abcdef"]);
    assert_eq!(store.ingest_status("k").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_ingest_whose_length_is_ahead_of_its_bytes_goes_on_where_they_end() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let bytes = vec![7; 3 * 4096];
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write(bytes.clone().into()).await.unwrap();
    drop(ingest);
    let data = root.path().join("ingest").join(sha256(b"k").hex()).join("data");
    let file = fs::OpenOptions::new().write(true).open(&data).unwrap();
    file.set_len(10 * 4096).unwrap();
    file.write_all_at(b"behind the hole", 9 * 4096).unwrap();
    drop(file);

    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, bytes.len() as u64);
    assert_eq!(ingest.digest().await.unwrap(), sha256(&bytes));
    ingest.write("and on".into()).await.unwrap();
    let whole = [&bytes[..], b"and on"].concat();
    let options = CommitOptions { expected: Some(sha256(&whole)), ..CommitOptions::default() };
    ingest.commit(options).await.unwrap();
    assert_eq!(blobs(&store).await, [whole]);
}

#[tokio::test]
async fn an_ingest_with_missing_files_works() {
    for name in FILES {
        let root = tempfile::tempdir().unwrap();
        fs::remove_file(half_done(root.path()).await.join(name)).unwrap();
        still_works(root.path()).await;
    }
}

#[tokio::test]
async fn an_ingest_with_other_things_in_place_of_files_works() {
    for name in FILES {
        let root = tempfile::tempdir().unwrap();
        let path = half_done(root.path()).await.join(name);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        still_works(root.path()).await;

        let root = tempfile::tempdir().unwrap();
        let path = half_done(root.path()).await.join(name);
        let outside = root.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&outside, &path).unwrap();
        still_works(root.path()).await;
        assert_eq!(fs::read(&outside).unwrap(), b"precious", "a link was followed");
    }
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let folder = half_done(root.path()).await;
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "no folder").unwrap();
    still_works(root.path()).await;
}

#[tokio::test]
async fn an_ingest_in_another_folder_than_its_own_is_not_listed() {
    let root = tempfile::tempdir().unwrap();
    let folder = half_done(root.path()).await;
    fs::rename(&folder, folder.with_file_name("elsewhere")).unwrap();
    let store = open(root.path());
    assert!(store.list_ingests(&Filters::all()).await.unwrap().is_empty());
    still_works(root.path()).await;
    assert_eq!(store.remove_unreadable_ingests().unwrap(), 1);
    assert!(!folder.with_file_name("elsewhere").exists());
}

#[tokio::test]
async fn unreadable_ingests_are_removed_and_others_kept() {
    let root = tempfile::tempdir().unwrap();
    let folder = half_done(root.path()).await;
    fs::create_dir(root.path().join("ingest/empty")).unwrap();
    fs::write(root.path().join("ingest/file"), "").unwrap();
    let store = open(root.path());
    assert_eq!(store.remove_unreadable_ingests().unwrap(), 2);
    assert_eq!(store.ingest_status("k").await.unwrap().offset_bytes, 3);
    fs::write(folder.join("ref"), "").unwrap();
    assert_eq!(store.remove_unreadable_ingests().unwrap(), 1);
    assert_eq!(store.remove_unreadable_ingests().unwrap(), 0);
}

#[tokio::test]
async fn a_crash_before_the_rename_leaves_an_ingest_that_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let folder = half_done(root.path()).await;
    fs::set_permissions(folder.join("data"), fs::Permissions::from_mode(0o444)).unwrap();
    let store = open(root.path());
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 3);
    ingest.write("def".into()).await.unwrap();
    assert_eq!(ingest.commit(CommitOptions::default()).await.unwrap().digest, sha256(b"abcdef"));
}

#[tokio::test]
async fn a_blob_that_is_also_the_data_of_an_ingest_is_never_written_to() {
    let root = tempfile::tempdir().unwrap();
    let folder = half_done(root.path()).await;
    let blob = root.path().join("blobs/sha256").join(sha256(b"abc").hex());
    fs::hard_link(folder.join("data"), &blob).unwrap();
    let store = open(root.path());
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    assert_eq!(ingest.status().offset_bytes, 0);
    ingest.write("xyz".into()).await.unwrap();
    ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(blobs(&store).await, [b"abc", b"xyz"]);
}

#[tokio::test]
async fn torn_bytes_are_found_at_the_commit() {
    let root = tempfile::tempdir().unwrap();
    let folder = half_done(root.path()).await;
    fs::write(folder.join("data"), "a\0c").unwrap();
    let store = open(root.path());
    let mut ingest = store.ingest("k", IngestOptions::default()).await.unwrap();
    ingest.write("def".into()).await.unwrap();
    let options = CommitOptions { expected: Some(sha256(b"abcdef")), ..CommitOptions::default() };
    assert_eq!(ingest.commit(options.clone()).await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    ingest.truncate().await.unwrap();
    ingest.write("abcdef".into()).await.unwrap();
    ingest.commit(options).await.unwrap();
}

#[tokio::test]
async fn strange_names_among_the_blobs_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    put(&store, "k", b"content").await.unwrap();
    let folder = root.path().join("blobs/sha256");
    fs::write(folder.join("not-a-digest"), "").unwrap();
    fs::write(folder.join(sha256(b"x").hex().to_uppercase()), "").unwrap();
    let taken = sha256(b"taken");
    fs::create_dir(folder.join(taken.hex())).unwrap();
    assert_eq!(blobs(&store).await, [b"content"]);
    assert_eq!(store.info(&taken).await.unwrap_err().kind(), ErrorKind::DataLoss);
    assert_eq!(store.open(&taken).await.map(drop).unwrap_err().kind(), ErrorKind::DataLoss);
    assert!(put(&store, "k", b"taken").await.is_err());
}

#[tokio::test]
async fn a_blob_that_is_cut_under_a_reader_is_data_loss() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let info = put(&store, "k", b"content").await.unwrap();
    let blob = store.open(&info.digest).await.unwrap();
    let path = root.path().join("blobs/sha256").join(info.digest.hex());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "con").unwrap();
    assert_eq!(blob.read_at(0, 7).await.unwrap_err().kind(), ErrorKind::DataLoss);
}

#[tokio::test]
async fn a_root_that_cannot_be_made_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    let error =
        corten_content_store::LocalStore::open(&root.path().join("file/store"), corten_disk::Disk::new());
    assert!(error.unwrap_err().message().contains("file/store"));
}

#[tokio::test]
async fn a_key_may_have_32_kib_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let longest = "k".repeat(corten_content_store::MAX_KEY_BYTES);
    drop(store.ingest(&longest, IngestOptions::default()).await.unwrap());
    assert_eq!(store.ingest_status(&longest).await.unwrap().key, longest);
    let refused = store.ingest(&format!("{longest}k"), IngestOptions::default()).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_ingest_with_damaged_files_works(
        damage in prop::collection::vec((0..FILES.len(), prop::collection::vec(any::<u8>(), 0..60)), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let root = tempfile::tempdir().unwrap();
            let folder = half_done(root.path()).await;
            for (file, bytes) in &damage {
                fs::write(folder.join(FILES[*file]), bytes).unwrap();
            }
            still_works(root.path()).await;
        });
    }
}
