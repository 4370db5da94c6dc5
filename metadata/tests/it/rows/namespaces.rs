//! NS1-NS7.

use corten_metadata::MetadataEvent;
use corten_types::{ErrorKind, Labels, Namespace, UpdateMask};

use crate::support::{Fixture, kind, labels, put};

fn name(text: &str) -> Namespace {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_namespace_that_does_not_exist_has_no_labels() {
    let fixture = Fixture::new().await;
    let namespaces = fixture.metadata.namespaces();
    assert_eq!(namespaces.get(&name("absent")).await.unwrap().labels, Labels::new());
    assert!(namespaces.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_namespace_is_created_once_and_also_by_what_is_in_it() {
    let fixture = Fixture::new().await;
    let namespaces = fixture.metadata.namespaces();
    namespaces.create(&name("b"), labels([("a", "1"), ("empty", "")])).await.unwrap();
    assert_eq!(kind(namespaces.create(&name("b"), Labels::new()).await), ErrorKind::AlreadyExists);
    fixture.view("a").leases().create(Some("l"), Labels::new()).await.unwrap();
    assert_eq!(kind(namespaces.create(&name("a"), Labels::new()).await), ErrorKind::AlreadyExists);
    let listed = namespaces.list().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(listed[1].labels, labels([("a", "1")]));
    let event = MetadataEvent::NamespaceCreate { name: name("b"), labels: labels([("a", "1")]) };
    assert_eq!(fixture.events.events(), [event]);
}

#[tokio::test]
async fn labels_are_changed_one_by_one_or_replaced() {
    let fixture = Fixture::new().await;
    let namespaces = fixture.metadata.namespaces();
    let one = UpdateMask::of(["labels.a"]);
    namespaces.update(&name("ns"), &labels([("a", "1"), ("b", "2")]), &one).await.unwrap();
    assert_eq!(namespaces.get(&name("ns")).await.unwrap().labels, labels([("a", "1")]));
    namespaces.update(&name("ns"), &labels([("c", "3")]), &UpdateMask::replace_all()).await.unwrap();
    assert_eq!(namespaces.get(&name("ns")).await.unwrap().labels, labels([("c", "3")]));
    namespaces.update(&name("ns"), &labels([("c", "")]), &UpdateMask::of(["labels.c"])).await.unwrap();
    assert_eq!(namespaces.get(&name("ns")).await.unwrap().labels, Labels::new());
    for wrong in ["name", "labels", "label.a"] {
        let refused = namespaces.update(&name("ns"), &Labels::new(), &UpdateMask::of([wrong])).await;
        assert_eq!(kind(refused), ErrorKind::InvalidArgument, "{wrong}");
    }
    let long = labels([("k", "v".repeat(4096).as_str())]);
    let refused = namespaces.update(&name("ns"), &long, &UpdateMask::replace_all()).await;
    assert_eq!(kind(refused), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn the_event_of_an_update_has_the_labels_of_the_call() {
    let fixture = Fixture::new().await;
    let namespaces = fixture.metadata.namespaces();
    namespaces.create(&name("ns"), labels([("kept", "1"), ("gone", "2")])).await.unwrap();
    fixture.events.take();
    for (given, mask) in [
        (labels([("new", "3"), ("gone", "")]), UpdateMask::of(["labels.new", "labels.gone"])),
        (labels([("only", "4")]), UpdateMask::replace_all()),
    ] {
        namespaces.update(&name("ns"), &given, &mask).await.unwrap();
        let event = MetadataEvent::NamespaceUpdate { name: name("ns"), labels: given };
        assert_eq!(fixture.events.events(), [event]);
    }
    assert_eq!(namespaces.get(&name("ns")).await.unwrap().labels, labels([("only", "4")]));
}

#[tokio::test]
async fn a_namespace_with_contents_is_not_deleted_and_the_error_says_what_is_in_it() {
    let fixture = Fixture::new().await;
    let namespaces = fixture.metadata.namespaces();
    let view = fixture.view("ns");
    let digest = put(&view.content(), b"blob", Labels::new()).await.unwrap();
    let snapshots = view.snapshots("memory").unwrap();
    corten_snapshotter::SnapshotWriter::prepare(&snapshots, "k", "", Labels::new()).await.unwrap();
    let error = namespaces.delete(&name("ns")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.message().ends_with("blobs, snapshots on \"memory\" snapshotter"), "{error}");
    corten_content_store::BlobWriter::delete(&view.content(), &digest).await.unwrap();
    corten_snapshotter::SnapshotKeeper::remove(&snapshots, "k").await.unwrap();
    view.leases().create(Some("lease"), Labels::new()).await.unwrap();
    fixture.events.take();
    namespaces.delete(&name("ns")).await.unwrap();
    assert_eq!(fixture.events.events(), [MetadataEvent::NamespaceDelete { name: name("ns") }]);
    assert_eq!(kind(namespaces.delete(&name("ns")).await), ErrorKind::NotFound);
    assert!(namespaces.list().await.unwrap().is_empty());
    let all = corten_filter::Filters::all();
    assert!(view.leases().list(&all, None, 10).await.unwrap().is_empty(), "leases go with their namespace");
}
