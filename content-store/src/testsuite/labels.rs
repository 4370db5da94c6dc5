//! Labels (rows T02, T03, T16). A store that keeps none lists all of these as gaps.

use corten_filter::Filters;
use corten_types::{Digest, ErrorKind, Labels, MAX_LABEL_BYTES, UpdateMask};

use super::support::{assert_kind, begin, put, sha256, write};
use crate::{BlobInfo, CommitOptions, ContentStore};

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn put_with(store: &dyn ContentStore, bytes: &[u8], given: &[(&str, &str)]) -> BlobInfo {
    let mut ingest = begin(store, &format!("put-{}", sha256(bytes))).await;
    write(ingest.as_mut(), bytes).await;
    let options = CommitOptions { labels: labels(given), ..CommitOptions::default() };
    ingest.commit(options).await.expect("it is committed")
}

async fn labels_of(store: &dyn ContentStore, digest: &Digest) -> Labels {
    store.info(digest).await.expect("the blob is known").labels
}

pub(super) async fn labels_of_a_commit_are_kept(store: &dyn ContentStore) {
    let info = put_with(store, b"labelled", &[("a", "1"), ("example.com/b.c", "2")]).await;
    assert_eq!(labels_of(store, &info.digest).await, labels(&[("a", "1"), ("example.com/b.c", "2")]));
}

pub(super) async fn labels_are_replaced_without_a_mask(store: &dyn ContentStore) {
    let info = put_with(store, b"labelled", &[("a", "1"), ("b", "2")]).await;
    let wanted = labels(&[("b", "3"), ("c", "4")]);
    let updated =
        store.update(&info.digest, &wanted, &UpdateMask::replace_all()).await.expect("it is updated");
    assert_eq!(updated.labels, wanted);
    assert!(updated.updated_at >= info.updated_at);
    assert_eq!(labels_of(store, &info.digest).await, wanted);
    let mask = UpdateMask::of(["labels"]);
    store.update(&info.digest, &labels(&[("d", "5")]), &mask).await.expect("it is updated");
    assert_eq!(labels_of(store, &info.digest).await, labels(&[("d", "5")]));
}

pub(super) async fn a_mask_changes_one_label(store: &dyn ContentStore) {
    let info = put_with(store, b"labelled", &[("a", "1"), ("example.com/b.c", "2"), ("z", "9")]).await;
    let mask = UpdateMask::of(["labels.example.com/b.c", "labels.z"]);
    let given = labels(&[("a", "ignored"), ("example.com/b.c", "3")]);
    store.update(&info.digest, &given, &mask).await.expect("it is updated");
    assert_eq!(labels_of(store, &info.digest).await, labels(&[("a", "1"), ("example.com/b.c", "3")]));
}

pub(super) async fn another_path_in_a_mask_is_refused(store: &dyn ContentStore) {
    let info = put_with(store, b"labelled", &[("a", "1")]).await;
    for path in ["size", "digest", "labelsx"] {
        let mask = UpdateMask::of(["labels.a", path]);
        assert_kind(store.update(&info.digest, &Labels::new(), &mask).await, ErrorKind::InvalidArgument);
    }
    assert_eq!(labels_of(store, &info.digest).await, labels(&[("a", "1")]));
}

pub(super) async fn labels_of_an_absent_blob_are_not_found(store: &dyn ContentStore) {
    let update = store.update(&sha256(b"absent"), &labels(&[("a", "1")]), &UpdateMask::replace_all()).await;
    assert_kind(update, ErrorKind::NotFound);
}

pub(super) async fn too_long_labels_are_refused(store: &dyn ContentStore) {
    let info = put(store, b"labelled").await;
    let fits = labels(&[("key", &"v".repeat(MAX_LABEL_BYTES - 3))]);
    let too_long = labels(&[("key", &"v".repeat(MAX_LABEL_BYTES - 2))]);
    store.update(&info.digest, &fits, &UpdateMask::replace_all()).await.expect("it fits");
    let update = store.update(&info.digest, &too_long, &UpdateMask::replace_all()).await;
    assert_kind(update, ErrorKind::InvalidArgument);
    assert_eq!(labels_of(store, &info.digest).await, fits);
    let mut ingest = begin(store, "long").await;
    write(ingest.as_mut(), b"other").await;
    let options = CommitOptions { labels: too_long, ..CommitOptions::default() };
    assert_kind(ingest.commit(options).await, ErrorKind::InvalidArgument);
}

pub(super) async fn filters_look_at_labels(store: &dyn ContentStore) {
    let one = put_with(store, b"one", &[("example.com/kind", "a")]).await;
    let two = put_with(store, b"two", &[("example.com/kind", "b")]).await;
    put(store, b"none").await;
    let listed = async |filter: &str| {
        let filters = Filters::parse(&[filter]).expect("the filter is well-formed");
        let infos = store.list(&filters, None, 10).await.expect("it lists");
        infos.into_iter().map(|info| info.digest).collect::<Vec<_>>()
    };
    assert_eq!(listed(r#"labels."example.com/kind"==a"#).await, std::slice::from_ref(&one.digest));
    let mut both = [one.digest, two.digest];
    both.sort();
    assert_eq!(listed(r#"labels."example.com/kind""#).await, both);
}
