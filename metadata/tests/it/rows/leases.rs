//! L01-L08.

use corten_filter::Filters;
use corten_metadata::Resource;
use corten_types::{ErrorKind, Labels};

use crate::support::{Fixture, kind, labels, sha256};

fn resource(kind: &str, id: &str) -> Resource {
    Resource { kind: kind.to_owned(), id: id.to_owned() }
}

#[tokio::test]
async fn a_lease_has_any_id_and_labels_of_any_size() {
    let fixture = Fixture::new().await;
    let leases = fixture.view("ns").leases();
    let long = labels([("k", "v".repeat(5000).as_str())]);
    let created = leases.create(Some("any/id at all"), long.clone()).await.unwrap();
    assert_eq!(created.labels, long);
    assert_eq!(kind(leases.create(Some("any/id at all"), Labels::new()).await), ErrorKind::AlreadyExists);
    let first = leases.create(None, Labels::new()).await.unwrap();
    let second = leases.create(Some(""), Labels::new()).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(first.id.split_once('-').unwrap().1.len(), 4);
    let found = leases.list(&Filters::parse(&["id==\"any/id at all\""]).unwrap(), None, 10).await.unwrap();
    assert_eq!(found, [created]);
    leases.delete("any/id at all").await.unwrap();
    assert_eq!(kind(leases.delete("any/id at all").await), ErrorKind::NotFound);
}

#[tokio::test]
async fn resources_are_listed_content_first_and_snapshots_last() {
    let fixture = Fixture::new().await;
    let leases = fixture.view("ns").leases();
    leases.create(Some("l"), Labels::new()).await.unwrap();
    let digest = sha256(b"x").to_string();
    let all = [
        resource("content", &digest),
        resource("images", "image"),
        resource("ingests", "ref"),
        resource("snapshots/memory", "key"),
        resource("snapshots/other", "a"),
    ];
    for resource in all.iter().rev() {
        leases.add_resource("l", resource).await.unwrap();
        leases.add_resource("l", resource).await.unwrap();
    }
    assert_eq!(leases.list_resources("l").await.unwrap(), all);
    leases.delete_resource("l", &all[1]).await.unwrap();
    leases.delete_resource("l", &all[1]).await.unwrap();
    assert_eq!(leases.list_resources("l").await.unwrap().len(), 4);
    leases.delete("l").await.unwrap();
    leases.create(Some("l"), Labels::new()).await.unwrap();
    assert!(leases.list_resources("l").await.unwrap().is_empty(), "a new lease of that name keeps nothing");
}

#[tokio::test]
async fn wrong_resources_are_refused() {
    let fixture = Fixture::new().await;
    let leases = fixture.view("ns").leases();
    leases.create(Some("l"), Labels::new()).await.unwrap();
    let digest = sha256(b"x").to_string();
    for (wrong, class) in [
        (resource("content", "not a digest"), ErrorKind::InvalidArgument),
        (resource("content/x", &digest), ErrorKind::InvalidArgument),
        (resource("snapshots", "key"), ErrorKind::InvalidArgument),
        (resource("snapshots/a/b", "key"), ErrorKind::InvalidArgument),
        (resource("snapshotter/memory", "key"), ErrorKind::Unimplemented),
        (resource("containers", "id"), ErrorKind::Unimplemented),
    ] {
        assert_eq!(kind(leases.add_resource("l", &wrong).await), class, "{wrong:?}");
        assert_eq!(kind(leases.delete_resource("l", &wrong).await), class, "{wrong:?}");
    }
    let good = resource("content", &digest);
    assert_eq!(kind(leases.add_resource("absent", &good).await), ErrorKind::NotFound);
    assert_eq!(kind(leases.delete_resource("absent", &good).await), ErrorKind::NotFound);
    assert_eq!(kind(leases.list_resources("absent").await), ErrorKind::NotFound);
}
