//! SB1-SB3.

use std::collections::BTreeMap;

use corten_filter::Filters;
use corten_metadata::{Runtime, Sandbox};
use corten_types::{ErrorKind, UpdateMask};

use crate::support::{Fixture, any, kind, labels};

fn sandbox(id: &str) -> Sandbox {
    Sandbox {
        id: id.to_owned(),
        labels: labels([("a", "1")]),
        runtime: Runtime { name: "io.containerd.runc.v2".to_owned(), options: Some(any("options")) },
        spec: Some(any("spec")),
        sandboxer: "shim".to_owned(),
        extensions: BTreeMap::from([("x".to_owned(), any("1"))]),
        ..Sandbox::default()
    }
}

#[tokio::test]
async fn a_sandbox_is_created_changed_listed_and_deleted() {
    let fixture = Fixture::new().await;
    let sandboxes = fixture.view("ns").sandboxes();
    let created = sandboxes.create(sandbox("one")).await.unwrap();
    assert_eq!(sandboxes.get("one").await.unwrap(), created);
    assert_eq!(kind(sandboxes.create(sandbox("one")).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(sandboxes.create(sandbox("a/b")).await), ErrorKind::InvalidArgument);
    let bare = Sandbox { id: "bare".to_owned(), ..Sandbox::default() };
    sandboxes.create(bare).await.unwrap();
    let found = sandboxes.list(&Filters::parse(&["labels.a==1"]).unwrap(), None, 10).await.unwrap();
    assert_eq!(found, [created]);
    sandboxes.delete("one").await.unwrap();
    assert_eq!(kind(sandboxes.delete("one").await), ErrorKind::NotFound);
    assert_eq!(kind(sandboxes.get("one").await), ErrorKind::NotFound);
    assert!(fixture.events.take().is_empty(), "SB3: no events");
}

#[tokio::test]
async fn updates_follow_the_mask_and_extensions_are_merged() {
    let fixture = Fixture::new().await;
    let sandboxes = fixture.view("ns").sandboxes();
    sandboxes.create(sandbox("one")).await.unwrap();
    let mut new = sandbox("one");
    new.labels = labels([("b", "2")]);
    new.spec = None;
    new.extensions = BTreeMap::from([("y".to_owned(), any("2"))]);
    let told = sandboxes.update(new.clone(), &UpdateMask::of(["labels.b", "extensions.y"])).await.unwrap();
    assert_eq!(told.labels, labels([("a", "1"), ("b", "2")]));
    assert_eq!((told.extensions.len(), told.spec.is_some()), (2, true));
    sandboxes.update(new.clone(), &UpdateMask::replace_all()).await.unwrap();
    let stored = sandboxes.get("one").await.unwrap();
    assert_eq!((stored.labels, stored.spec), (labels([("b", "2")]), None));
    assert_eq!(stored.extensions.len(), 2, "extensions never go");
    let other = Sandbox { runtime: Runtime { name: "other".to_owned(), options: None }, ..new.clone() };
    assert_eq!(kind(sandboxes.update(other, &UpdateMask::replace_all()).await), ErrorKind::InvalidArgument);
    assert_eq!(
        kind(sandboxes.update(new.clone(), &UpdateMask::of(["sandboxer"])).await),
        ErrorKind::InvalidArgument
    );
    new.id = "absent".to_owned();
    assert_eq!(kind(sandboxes.update(new, &UpdateMask::replace_all()).await), ErrorKind::NotFound);
}
