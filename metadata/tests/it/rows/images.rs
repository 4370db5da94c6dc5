//! I01-I07.

use std::time::{Duration, UNIX_EPOCH};

use corten_filter::Filters;
use corten_metadata::{Image, MetadataEvent};
use corten_types::{ErrorKind, Labels, UpdateMask};

use crate::support::{Fixture, descriptor, kind, labels, sha256};

fn image(name: &str) -> Image {
    let mut image = Image::new(name, descriptor(&sha256(b"target")));
    image.labels = labels([("a", "1")]);
    image.target.annotations = labels([("n", "1")]);
    image
}

#[tokio::test]
async fn an_image_comes_back_as_it_was_created() {
    let fixture = Fixture::new().await;
    let images = fixture.view("ns").images();
    let created = images.create(image("Any name at/all"), None).await.unwrap();
    assert_eq!(images.get("Any name at/all").await.unwrap(), created);
    assert_eq!(created.target, image("").target);
    assert_eq!(kind(images.create(image("Any name at/all"), None).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(images.get("any name at/all").await), ErrorKind::NotFound);
    let expected =
        MetadataEvent::ImageCreate { name: "Any name at/all".to_owned(), labels: labels([("a", "1")]) };
    assert_eq!(fixture.events.events(), [expected]);
}

#[tokio::test]
async fn what_an_image_must_have_is_checked() {
    let fixture = Fixture::new().await;
    let images = fixture.view("ns").images();
    let wrong: Vec<fn(&mut Image)> = vec![
        |image| image.name = String::new(),
        |image| image.target.size_bytes = 0,
        |image| image.target.media_type = String::new(),
        |image| drop(image.labels.insert("k".to_owned(), "v".repeat(4096))),
    ];
    images.create(image("stored"), None).await.unwrap();
    for change in wrong {
        let mut image = image("stored");
        change(&mut image);
        assert_eq!(kind(images.create(image.clone(), None).await), ErrorKind::InvalidArgument, "{image:?}");
        let updated = images.update(image.clone(), &UpdateMask::replace_all(), None).await;
        assert_eq!(kind(updated), ErrorKind::InvalidArgument, "{image:?}");
    }
}

#[tokio::test]
async fn the_source_date_stands_for_now() {
    let fixture = Fixture::new().await;
    let images = fixture.view("ns").images();
    let epoch = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let created = images.create(image("one"), Some(epoch)).await.unwrap();
    assert_eq!((created.created_at, created.updated_at), (epoch, epoch));
    let later = epoch + Duration::from_secs(1);
    let updated = images.update(image("one"), &UpdateMask::replace_all(), Some(later)).await.unwrap();
    assert_eq!((updated.created_at, updated.updated_at), (epoch, later));
}

#[tokio::test]
async fn a_mask_tells_annotations_from_the_target() {
    let fixture = Fixture::new().await;
    let images = fixture.view("ns").images();
    images.create(image("one"), None).await.unwrap();
    let mut new = image("one");
    new.target = descriptor(&sha256(b"other"));
    new.target.annotations = labels([("m", "2")]);
    new.labels = labels([("b", "2")]);
    let told = images.update(new.clone(), &UpdateMask::of(["target"]), None).await.unwrap();
    assert_eq!(told.target.digest, sha256(b"other"));
    assert_eq!(told.target.annotations, labels([("n", "1")]));
    assert_eq!(told.labels, labels([("a", "1")]));
    let told = images.update(new.clone(), &UpdateMask::of(["annotations.m"]), None).await.unwrap();
    assert_eq!(told.target.annotations, labels([("m", "2"), ("n", "1")]));
    let told = images.update(new.clone(), &UpdateMask::of(["annotations", "labels.b"]), None).await.unwrap();
    assert_eq!(told.target.annotations, labels([("m", "2")]));
    assert_eq!(told.labels, labels([("a", "1"), ("b", "2")]));
    for path in ["name", "target.digest", "created_at"] {
        let refused = images.update(new.clone(), &UpdateMask::of([path]), None).await;
        assert_eq!(kind(refused), ErrorKind::InvalidArgument, "{path}");
    }
    new.name = "absent".to_owned();
    assert_eq!(kind(images.update(new, &UpdateMask::replace_all(), None).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_delete_may_insist_on_the_target() {
    let fixture = Fixture::new().await;
    let images = fixture.view("ns").images();
    images.create(image("one"), None).await.unwrap();
    assert_eq!(kind(images.delete("one", Some(&sha256(b"other"))).await), ErrorKind::NotFound);
    fixture.events.take();
    images.delete("one", Some(&sha256(b"target"))).await.unwrap();
    assert_eq!(kind(images.delete("one", None).await), ErrorKind::NotFound);
    assert_eq!(fixture.events.events(), [MetadataEvent::ImageDelete { name: "one".to_owned() }]);
}

#[tokio::test]
async fn filters_look_at_names_targets_labels_and_annotations() {
    let fixture = Fixture::new().await;
    let images = fixture.view("ns").images();
    images.create(image("one"), None).await.unwrap();
    let mut other = image("two");
    other.target = descriptor(&sha256(b"other"));
    images.create(other, None).await.unwrap();
    let digest = format!("target.digest=={}", sha256(b"other"));
    for (filter, expected) in [
        ("name~=^o", vec!["one"]),
        (digest.as_str(), vec!["two"]),
        ("target.mediatype~=manifest", vec!["one", "two"]),
        ("labels.a==1", vec!["one", "two"]),
        ("annotations.n==1", vec!["one"]),
        ("size==1", vec![]),
    ] {
        let found = images.list(&Filters::parse(&[filter]).unwrap(), None, 10).await.unwrap();
        let names: Vec<&str> = found.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, expected, "{filter}");
    }
}

#[tokio::test]
async fn only_an_image_that_expires_joins_the_lease() {
    let fixture = Fixture::new().await;
    let leases = fixture.view("ns").leases();
    leases.create(Some("l"), Labels::new()).await.unwrap();
    let images = fixture.leased("ns", "l").images();
    images.create(image("kept"), None).await.unwrap();
    let mut expiring = image("expiring");
    expiring.labels = labels([("containerd.io/gc.expire", "2999-01-01T00:00:00Z")]);
    images.create(expiring.clone(), None).await.unwrap();
    let resources = leases.list_resources("l").await.unwrap();
    assert_eq!(resources.iter().map(|resource| resource.id.as_str()).collect::<Vec<_>>(), ["expiring"]);
    expiring.name = "refused".to_owned();
    let refused = fixture.leased("ns", "absent").images().create(expiring, None).await;
    assert_eq!(kind(refused), ErrorKind::NotFound);
    assert_eq!(kind(images.get("refused").await), ErrorKind::NotFound);
    fixture.leased("ns", "absent").images().create(image("unleased"), None).await.unwrap();
}
