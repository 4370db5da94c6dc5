//! C01-C14.

use std::collections::BTreeMap;

use corten_filter::Filters;
use corten_metadata::{Container, MetadataEvent, Runtime};
use corten_types::{ErrorKind, UpdateMask};

use crate::support::{Fixture, any, kind, labels};

fn container(id: &str) -> Container {
    Container {
        id: id.to_owned(),
        labels: labels([("a", "1"), ("with.dots/and-more", "2")]),
        image: "localhost/image:1".to_owned(),
        runtime: Runtime { name: "io.containerd.runc.v2".to_owned(), options: Some(any("options")) },
        spec: Some(any("spec")),
        snapshotter: "memory".to_owned(),
        snapshot_key: id.to_owned(),
        extensions: BTreeMap::from([("x".to_owned(), any("1")), ("y".to_owned(), any("2"))]),
        sandbox: "sandbox".to_owned(),
        ..Container::default()
    }
}

#[tokio::test]
async fn a_container_comes_back_as_it_was_created() {
    let fixture = Fixture::new().await;
    let containers = fixture.view("ns").containers();
    let created = containers.create(container("one")).await.unwrap();
    assert_eq!(created.created_at, created.updated_at);
    assert_ne!(created.created_at, std::time::UNIX_EPOCH);
    assert_eq!(containers.get("one").await.unwrap(), created);
    let mut expected = container("one");
    (expected.created_at, expected.updated_at) = (created.created_at, created.updated_at);
    assert_eq!(created, expected);
    assert_eq!(kind(containers.create(container("one")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(containers.get("two").await), ErrorKind::NotFound);
    assert_eq!(kind(fixture.view("other").containers().get("one").await), ErrorKind::NotFound);
    let MetadataEvent::ContainerCreate { id, image, runtime } = fixture.events.events().remove(0) else {
        panic!("another event")
    };
    assert_eq!((id.as_str(), image.as_str()), ("one", "localhost/image:1"));
    assert_eq!(runtime, created.runtime);
}

#[tokio::test]
async fn what_a_container_must_have_is_checked() {
    let fixture = Fixture::new().await;
    let containers = fixture.view("ns").containers();
    let wrong: Vec<fn(&mut Container)> = vec![
        |container| container.id = "a..b".to_owned(),
        |container| container.id = String::new(),
        |container| container.runtime.name = String::new(),
        |container| container.spec = None,
        |container| container.snapshotter = String::new(),
        |container| drop(container.extensions.insert(String::new(), any(""))),
        |container| drop(container.labels.insert("k".to_owned(), "v".repeat(4096))),
    ];
    for change in wrong {
        let mut container = container("one");
        change(&mut container);
        assert_eq!(
            kind(containers.create(container.clone()).await),
            ErrorKind::InvalidArgument,
            "{container:?}"
        );
    }
    assert!(containers.list(&Filters::all(), None, 10).await.unwrap().is_empty());
    let mut largest = container("one");
    largest.labels = labels([("k", "v".repeat(4095).as_str())]);
    containers.create(largest).await.unwrap();
}

#[tokio::test]
async fn lists_are_sorted_paged_and_filtered() {
    let fixture = Fixture::new().await;
    let containers = fixture.view("ns").containers();
    for id in ["c", "a", "b"] {
        containers.create(container(id)).await.unwrap();
    }
    let ids = async |filters: &[&str], after: Option<&str>, limit| {
        let filters = Filters::parse(filters).unwrap();
        let found = containers.list(&filters, after, limit).await.unwrap();
        found.into_iter().map(|container| container.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[], None, 10).await, ["a", "b", "c"]);
    assert_eq!(ids(&[], Some("a"), 1).await, ["b"]);
    assert_eq!(ids(&["id==a", "id==c"], None, 10).await, ["a", "c"]);
    assert_eq!(ids(&["runtime.name==io.containerd.runc.v2,labels.a==1"], None, 10).await.len(), 3);
    assert_eq!(ids(&["labels.\"with.dots/and-more\"==2"], None, 10).await.len(), 3);
    assert_eq!(ids(&["image!=localhost/image:1"], None, 10).await, [""; 0]);
    assert!(fixture.view("other").containers().list(&Filters::all(), None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_mask_changes_only_what_it_names() {
    let fixture = Fixture::new().await;
    let containers = fixture.view("ns").containers();
    let old = containers.create(container("one")).await.unwrap();
    let mut new = Container { id: "one".to_owned(), ..Container::default() };
    new.labels = labels([("with.dots/and-more", "9"), ("other", "x")]);
    new.image = "localhost/image:2".to_owned();
    let mask = UpdateMask::of(["labels.with.dots/and-more", "labels.a", "image"]);
    let told = containers.update(new.clone(), &mask).await.unwrap();
    assert_eq!(told.labels, labels([("with.dots/and-more", "9")]), "a key that is not given is cleared");
    assert_eq!(told.image, "localhost/image:2");
    assert_eq!((told.spec, told.snapshot_key), (old.spec, old.snapshot_key));
    assert!(told.updated_at > old.updated_at && told.created_at == old.created_at);
    for path in ["snapshot_key", "runtime", "snapshotter", "sandbox", "id", "spec.x"] {
        let refused = containers.update(new.clone(), &UpdateMask::of([path])).await;
        assert_eq!(kind(refused), ErrorKind::InvalidArgument, "{path}");
    }
    let snapshot = Container { snapshot_key: "k2".to_owned(), ..new.clone() };
    let told = containers.update(snapshot, &UpdateMask::of(["snapshotkey"])).await.unwrap();
    assert_eq!(told.snapshot_key, "k2");
    fixture.events.take();
    containers.update(new, &UpdateMask::of(["labels"])).await.unwrap();
    let expected = MetadataEvent::ContainerUpdate {
        id: "one".to_owned(),
        image: "localhost/image:2".to_owned(),
        labels: labels([("with.dots/and-more", "9"), ("other", "x")]),
        snapshot_key: "k2".to_owned(),
    };
    assert_eq!(fixture.events.events(), [expected]);
}

#[tokio::test]
async fn without_a_mask_everything_that_may_change_is_replaced() {
    let fixture = Fixture::new().await;
    let containers = fixture.view("ns").containers();
    containers.create(container("one")).await.unwrap();
    let mut new = container("one");
    new.labels = labels([]);
    new.runtime.options = None;
    new.sandbox = "another".to_owned();
    new.extensions.remove("y");
    let told = containers.update(new.clone(), &UpdateMask::replace_all()).await.unwrap();
    assert_eq!(told.labels, labels([]));
    assert_eq!(told.runtime.options, Some(any("options")), "C07: options silently stay");
    assert_eq!(told.sandbox, "sandbox");
    assert_eq!(told.extensions.len(), 1, "C08: the answer has what was sent");
    assert_eq!(containers.get("one").await.unwrap().extensions.len(), 2, "C08: the store never drops one");
    let other = Container { runtime: Runtime { name: "other".to_owned(), options: None }, ..new.clone() };
    assert_eq!(kind(containers.update(other, &UpdateMask::replace_all()).await), ErrorKind::InvalidArgument);
    let other = Container { snapshotter: "other".to_owned(), ..new.clone() };
    assert_eq!(kind(containers.update(other, &UpdateMask::replace_all()).await), ErrorKind::InvalidArgument);
    let other = Container { id: String::new(), ..new.clone() };
    assert_eq!(kind(containers.update(other, &UpdateMask::replace_all()).await), ErrorKind::InvalidArgument);
    let other = Container { id: "two".to_owned(), ..new };
    assert_eq!(kind(containers.update(other, &UpdateMask::replace_all()).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_deleted_container_is_gone() {
    let fixture = Fixture::new().await;
    let containers = fixture.view("ns").containers();
    containers.create(container("one")).await.unwrap();
    fixture.events.take();
    containers.delete("one").await.unwrap();
    assert_eq!(kind(containers.delete("one").await), ErrorKind::NotFound);
    assert_eq!(fixture.events.events(), [MetadataEvent::ContainerDelete { id: "one".to_owned() }]);
}
