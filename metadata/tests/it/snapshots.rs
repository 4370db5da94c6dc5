//! Snapshots of namespaces (S01-S16, S19).

use corten_filter::Filters;
use corten_metadata::{MetadataEvent, Snapshots};
use corten_snapshotter::{Kind, SnapshotKeeper, SnapshotReader, SnapshotWriter};
use corten_types::{ErrorKind, Labels, UpdateMask};

use crate::{
    doubles::REMOTE_TIME,
    support::{Fixture, kind, labels},
};

fn snapshots(fixture: &Fixture, namespace: &str) -> Snapshots {
    fixture.view(namespace).snapshots("memory").unwrap()
}

/// A chain of committed snapshots named `1`, `2`, ...
async fn chain(snapshots: &Snapshots, length: usize) {
    for number in 1..=length {
        let parent = if number == 1 { String::new() } else { (number - 1).to_string() };
        snapshots.prepare("draft", &parent, Labels::new()).await.unwrap();
        snapshots.commit(&number.to_string(), "draft", Labels::new(), None).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_snapshotter_is_an_invalid_argument() {
    let fixture = Fixture::new().await;
    let error = fixture.view("a").snapshots("zfs").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.message(), "snapshotter not loaded: zfs");
    assert_eq!(fixture.metadata.snapshotters(), ["memory"]);
}

#[tokio::test]
async fn a_chain_is_made_and_each_step_is_told() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    let mounts = snapshots.prepare("k", "", Labels::new()).await.unwrap();
    assert_eq!(snapshots.mounts("k").await.unwrap(), mounts);
    snapshots.commit("one", "k", Labels::new(), None).await.unwrap();
    assert_eq!(kind(snapshots.stat("k").await), ErrorKind::NotFound);
    assert_eq!(kind(snapshots.mounts("one").await), ErrorKind::FailedPrecondition);
    snapshots.view("look", "one", Labels::new()).await.unwrap();
    let info = snapshots.stat("look").await.unwrap();
    assert_eq!((info.kind, info.name.as_str(), info.parent.as_str()), (Kind::View, "look", "one"));
    assert_eq!(
        kind(snapshots.commit("two", "look", Labels::new(), None).await),
        ErrorKind::FailedPrecondition
    );
    assert_eq!(kind(snapshots.remove("one").await), ErrorKind::FailedPrecondition);
    snapshots.remove("look").await.unwrap();
    snapshots.remove("one").await.unwrap();
    let snapshotter = || "memory".to_owned();
    let expected = [
        MetadataEvent::SnapshotPrepare {
            key: "k".to_owned(),
            parent: String::new(),
            snapshotter: snapshotter(),
        },
        MetadataEvent::SnapshotCommit {
            key: "k".to_owned(),
            name: "one".to_owned(),
            snapshotter: snapshotter(),
        },
        MetadataEvent::SnapshotRemove { key: "look".to_owned(), snapshotter: snapshotter() },
        MetadataEvent::SnapshotRemove { key: "one".to_owned(), snapshotter: snapshotter() },
    ];
    assert_eq!(fixture.events.events(), expected);
    assert_eq!(fixture.snapshotter.short_names(), ["look", "one"], "trees go with the next collection");
    fixture.metadata.collect().await.unwrap();
    assert_eq!(fixture.snapshotter.short_names(), [""; 0]);
}

#[tokio::test]
async fn namespaces_have_their_own_keys() {
    let fixture = Fixture::new().await;
    let (a, b) = (snapshots(&fixture, "a"), snapshots(&fixture, "b"));
    a.prepare("k", "", Labels::new()).await.unwrap();
    b.prepare("k", "", Labels::new()).await.unwrap();
    a.commit("base", "k", Labels::new(), None).await.unwrap();
    assert_eq!(kind(b.prepare("child", "base", Labels::new()).await), ErrorKind::NotFound);
    b.remove("k").await.unwrap();
    assert_eq!(a.list(&Filters::all(), None, 10).await.unwrap().len(), 1);
    assert!(
        fixture.snapshotter.names().iter().any(|name| name.starts_with("a/")),
        "the namespace is visible below"
    );
}

#[tokio::test]
async fn wrong_requests_are_refused_and_leave_nothing_behind() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    snapshots.prepare("k", "", Labels::new()).await.unwrap();
    assert_eq!(kind(snapshots.prepare("", "", Labels::new()).await), ErrorKind::InvalidArgument);
    assert_eq!(kind(snapshots.prepare("k", "", Labels::new()).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(snapshots.prepare("c", "absent", Labels::new()).await), ErrorKind::NotFound);
    assert_eq!(kind(snapshots.prepare("c", "k", Labels::new()).await), ErrorKind::InvalidArgument);
    let long = labels([("k", "v".repeat(4096).as_str())]);
    assert_eq!(kind(snapshots.prepare("c", "", long.clone()).await), ErrorKind::InvalidArgument);
    assert_eq!(kind(snapshots.commit("n", "k", long, None).await), ErrorKind::InvalidArgument);
    assert_eq!(kind(snapshots.commit("n", "absent", Labels::new(), None).await), ErrorKind::NotFound);
    assert_eq!(kind(snapshots.commit("k", "k", Labels::new(), None).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(snapshots.commit("n", "k", Labels::new(), Some("absent")).await), ErrorKind::NotFound);
    for refused in [
        snapshots.stat("c").await.map(drop),
        snapshots.remove("c").await,
        snapshots.usage("c").await.map(drop),
    ] {
        assert_eq!(kind(refused), ErrorKind::NotFound);
    }
    assert_eq!(fixture.snapshotter.short_names(), ["k"]);
    assert_eq!(snapshots.list(&Filters::all(), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_that_is_taken_leaves_the_active_snapshot_and_joins_the_lease() {
    let fixture = Fixture::new().await;
    chain(&snapshots(&fixture, "a"), 1).await;
    let leases = fixture.view("a").leases();
    leases.create(Some("l"), Labels::new()).await.unwrap();
    let leased = fixture.leased("a", "l").snapshots("memory").unwrap();
    leased.prepare("k", "", Labels::new()).await.unwrap();
    assert_eq!(kind(leased.commit("1", "k", Labels::new(), None).await), ErrorKind::AlreadyExists);
    assert_eq!(leased.stat("k").await.unwrap().kind, Kind::Active);
    let ids: Vec<_> =
        leases.list_resources("l").await.unwrap().into_iter().map(|resource| resource.id).collect();
    assert_eq!(ids, ["1", "k"]);
    leased.commit("2", "k", Labels::new(), None).await.unwrap();
    let ids: Vec<_> =
        leases.list_resources("l").await.unwrap().into_iter().map(|resource| resource.id).collect();
    assert_eq!(ids, ["1", "2"]);
    let absent = fixture.leased("a", "absent").snapshots("memory").unwrap();
    assert_eq!(kind(absent.prepare("x", "", Labels::new()).await), ErrorKind::NotFound);
    assert_eq!(fixture.snapshotter.short_names().len(), 2, "what was made without a lease is undone");
}

#[tokio::test]
async fn only_a_snapshot_without_a_parent_can_be_given_one() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    chain(&snapshots, 2).await;
    snapshots.prepare("alone", "", Labels::new()).await.unwrap();
    snapshots.prepare("child", "1", Labels::new()).await.unwrap();
    let refused = snapshots.commit("n", "child", Labels::new(), Some("2")).await;
    assert_eq!(kind(refused), ErrorKind::InvalidArgument);
    snapshots.commit("3", "alone", Labels::new(), Some("2")).await.unwrap();
    assert_eq!(snapshots.stat("3").await.unwrap().parent, "2");
    assert_eq!(kind(snapshots.remove("2").await), ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn labels_of_the_commit_replace_and_only_some_reach_the_snapshotter() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    let inherited = "containerd.io/snapshot/size";
    snapshots.prepare("k", "", labels([("mine", "1"), (inherited, "2")])).await.unwrap();
    let below = fixture.snapshotter.info(&fixture.snapshotter.names()[0]).unwrap();
    assert_eq!(below.labels, labels([(inherited, "2")]));
    snapshots.commit("n", "k", labels([("yours", "3")]), None).await.unwrap();
    assert_eq!(snapshots.stat("n").await.unwrap().labels, labels([("yours", "3")]));
    let mask = UpdateMask::of([format!("labels.{inherited}"), "labels.mine".to_owned()]);
    let told = snapshots.update("n", &labels([(inherited, "9"), ("mine", "8")]), &mask).await.unwrap();
    assert_eq!(told.labels, labels([(inherited, "9"), ("mine", "8"), ("yours", "3")]));
    let below = fixture.snapshotter.info(&fixture.snapshotter.names()[0]).unwrap();
    assert_eq!(below.labels, labels([(inherited, "9")]));
    assert_eq!(
        kind(snapshots.update("n", &Labels::new(), &UpdateMask::of(["parent"])).await),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(snapshots.update("x", &Labels::new(), &UpdateMask::replace_all()).await),
        ErrorKind::NotFound
    );
    snapshots.update("n", &labels([("only", "1")]), &UpdateMask::replace_all()).await.unwrap();
    assert_eq!(snapshots.stat("n").await.unwrap().labels, labels([("only", "1")]));
}

#[tokio::test]
async fn lists_are_paged_filtered_and_skip_what_the_snapshotter_lost() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    chain(&snapshots, 3).await;
    snapshots.prepare("k", "3", labels([("l", "1")])).await.unwrap();
    let names = async |filters: &[&str], after: Option<&str>, limit| {
        let found = snapshots.list(&Filters::parse(filters).unwrap(), after, limit).await.unwrap();
        found.into_iter().map(|info| info.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[], None, 10).await, ["1", "2", "3", "k"]);
    assert_eq!(names(&[], Some("1"), 2).await, ["2", "3"]);
    assert_eq!(names(&["kind==active"], None, 10).await, ["k"]);
    assert_eq!(names(&["parent==1", "labels.l==1"], None, 10).await, ["2", "k"]);
    let lost = fixture.snapshotter.names().into_iter().find(|name| name.ends_with("/2")).unwrap();
    fixture.snapshotter.forget(&lost);
    assert_eq!(names(&[], None, 10).await, ["1", "3", "k"]);
}

#[tokio::test]
async fn a_remote_snapshot_is_registered_and_reported_as_existing() {
    let fixture = Fixture::new().await;
    fixture.snapshotter.add_remote("sha256:chain");
    let snapshots = snapshots(&fixture, "a");
    let target = labels([("containerd.io/snapshot.ref", "sha256:chain"), ("mine", "1")]);
    let refused = snapshots.prepare("extract", "", target.clone()).await;
    assert_eq!(kind(refused), ErrorKind::AlreadyExists);
    let info = snapshots.stat("sha256:chain").await.unwrap();
    assert_eq!((info.kind, &info.labels), (Kind::Committed, &target));
    assert_eq!((info.created_at, info.updated_at), (REMOTE_TIME, REMOTE_TIME), "it is as old as it is below");
    assert_eq!(kind(snapshots.stat("extract").await), ErrorKind::NotFound);
    assert_eq!(kind(snapshots.prepare("again", "", target.clone()).await), ErrorKind::AlreadyExists);
    let root = labels([("containerd.io/gc.root", "1")]);
    snapshots.prepare("child", "sha256:chain", root).await.unwrap();
    let other = crate::snapshots::snapshots(&fixture, "b");
    assert_eq!(kind(other.prepare("x", "", target).await), ErrorKind::AlreadyExists);
    other.remove("sha256:chain").await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert!(fixture.snapshotter.info("remote/sha256:chain").is_some(), "the other namespace has it");
}

/// S12.
#[tokio::test]
async fn a_remote_snapshot_that_stands_on_something_else_is_not_found_and_nothing_is_registered() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    chain(&snapshots, 1).await;
    fixture.snapshotter.add_remote_on("sha256:chain", "elsewhere");
    let target = labels([("containerd.io/snapshot.ref", "sha256:chain")]);
    for parent in ["", "1"] {
        let refused = snapshots.prepare("extract", parent, target.clone()).await;
        assert_eq!(kind(refused), ErrorKind::NotFound, "on {parent:?}");
    }
    let names: Vec<_> = snapshots.list(&Filters::all(), None, 10).await.unwrap();
    assert_eq!(names.into_iter().map(|info| info.name).collect::<Vec<_>>(), ["1"]);
}

/// S07: the snapshotter's own labels, such as the folder of the files, are told below those of the namespace.
#[tokio::test]
async fn labels_of_the_snapshotter_are_told_where_the_namespace_has_none() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    snapshots.prepare("k", "", labels([("containerd.io/snapshot/x", "ours")])).await.unwrap();
    let below = fixture.snapshotter.names().remove(0);
    fixture.snapshotter.label(&below, "containerd.io/snapshot/overlay.upperdir", "/there");
    fixture.snapshotter.label(&below, "containerd.io/snapshot/x", "theirs");
    let wanted =
        labels([("containerd.io/snapshot/overlay.upperdir", "/there"), ("containerd.io/snapshot/x", "ours")]);
    assert_eq!(snapshots.stat("k").await.unwrap().labels, wanted);
    assert_eq!(snapshots.list(&Filters::all(), None, 10).await.unwrap()[0].labels, wanted);
    let mask = UpdateMask::of(["labels.y"]);
    let told = snapshots.update("k", &labels([("y", "1")]), &mask).await.unwrap();
    assert_eq!(told.labels["containerd.io/snapshot/overlay.upperdir"], "/there");
}

#[tokio::test]
async fn two_commits_to_one_name_never_wait_for_each_other() {
    let fixture = Fixture::new().await;
    let snapshots = snapshots(&fixture, "a");
    let mut tasks = Vec::new();
    for number in 0..8 {
        let snapshots = snapshots.clone();
        tasks.push(tokio::spawn(async move {
            let key = format!("k{number}");
            snapshots.prepare(&key, "", Labels::new()).await.unwrap();
            snapshots.commit("name", &key, Labels::new(), None).await.is_ok()
        }));
    }
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
    assert_eq!(snapshots.list(&Filters::all(), None, 100).await.unwrap().len(), 8);
}
