//! What lives and what goes (G07-G28).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use corten_content_store::{BlobReader, BlobWriter, CommitOptions, IngestCatalog, IngestOptions, Ingester};
use corten_metadata::{Container, Image, MetadataEvent, Resource, Runtime, View};
use corten_snapshotter::{SnapshotReader, SnapshotWriter};
use corten_types::{Digest, Labels, UpdateMask};

use crate::support::{Fixture, any, descriptor, labels, put};

const PAST: &str = "2001-01-01T00:00:00Z";
const FUTURE: &str = "2999-01-01T00:00:00Z";

/// Which of the blobs the namespace still has.
async fn alive(view: &View, digests: &[&Digest]) -> Vec<bool> {
    let mut found = Vec::new();
    for digest in digests {
        found.push(view.content().info(digest).await.is_ok());
    }
    found
}

async fn has_snapshot(view: &View, key: &str) -> bool {
    view.snapshots("memory").unwrap().stat(key).await.is_ok()
}

async fn commit_snapshot(view: &View, name: &str, parent: &str, with: Labels) {
    let snapshots = view.snapshots("memory").unwrap();
    snapshots.prepare("draft", parent, Labels::new()).await.unwrap();
    snapshots.commit(name, "draft", with, None).await.unwrap();
}

fn container(id: &str, key: &str, with: Labels) -> Container {
    Container {
        id: id.to_owned(),
        labels: with,
        runtime: Runtime { name: "runc".to_owned(), options: None },
        spec: Some(any("spec")),
        snapshotter: "memory".to_owned(),
        snapshot_key: key.to_owned(),
        ..Container::default()
    }
}

#[tokio::test]
async fn an_image_keeps_its_tree_of_blobs_and_snapshots_until_it_is_deleted() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    commit_snapshot(&view, "bottom", "", Labels::new()).await;
    commit_snapshot(&view, "top", "bottom", Labels::new()).await;
    commit_snapshot(&view, "stray", "bottom", Labels::new()).await;
    let layer = put(&view.content(), b"layer", Labels::new()).await.unwrap();
    let config = put(&view.content(), b"config", labels([("containerd.io/gc.ref.snapshot.memory", "top")]))
        .await
        .unwrap();
    let references = labels([
        ("containerd.io/gc.ref.content.0", layer.as_str()),
        ("containerd.io/gc.ref.content/config", config.as_str()),
        ("containerd.io/gc.ref.contentX", "ignored"),
    ]);
    let manifest = put(&view.content(), b"manifest", references).await.unwrap();
    let garbage = put(&view.content(), b"garbage", Labels::new()).await.unwrap();
    view.images().create(Image::new("image", descriptor(&manifest)), None).await.unwrap();
    fixture.events.take();
    let stats = fixture.metadata.collect().await.unwrap();
    assert_eq!((stats.rows_removed, stats.bytes_removed_of, stats.postponed), (2, 2, 0));
    assert_eq!(alive(&view, &[&layer, &config, &manifest, &garbage]).await, [true, true, true, false]);
    assert!(!fixture.has_bytes(&garbage) && fixture.has_bytes(&layer));
    assert!(has_snapshot(&view, "top").await && has_snapshot(&view, "bottom").await);
    let removed = MetadataEvent::SnapshotRemove { key: "stray".to_owned(), snapshotter: "memory".to_owned() };
    assert_eq!(fixture.events.events(), [removed], "G28: blobs go in silence");
    view.images().delete("image", None).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&layer, &config, &manifest]).await, [false; 3]);
    assert!(!fixture.has_bytes(&layer) && !fixture.has_bytes(&config) && !fixture.has_bytes(&manifest));
    assert_eq!(fixture.snapshotter.short_names(), [""; 0]);
}

#[tokio::test]
async fn root_labels_keep_content_and_snapshots_whatever_their_value() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    let rooted = put(&view.content(), b"rooted", labels([("containerd.io/gc.root", "x")])).await.unwrap();
    commit_snapshot(&view, "below", "", Labels::new()).await;
    commit_snapshot(&view, "rooted", "below", labels([("containerd.io/gc.root", "now")])).await;
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&rooted]).await, [true]);
    assert!(has_snapshot(&view, "rooted").await && has_snapshot(&view, "below").await);
    view.content().update(&rooted, &Labels::new(), &UpdateMask::replace_all()).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&rooted]).await, [false]);
}

#[tokio::test]
async fn a_container_keeps_its_snapshot_and_what_its_labels_name_but_not_its_image() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    commit_snapshot(&view, "base", "", Labels::new()).await;
    view.snapshots("memory").unwrap().prepare("rw", "base", Labels::new()).await.unwrap();
    let blob = put(&view.content(), b"blob", Labels::new()).await.unwrap();
    let target = put(&view.content(), b"target", Labels::new()).await.unwrap();
    let mut image = Image::new("image", descriptor(&target));
    image.labels = labels([("containerd.io/gc.expire", PAST)]);
    view.images().create(image, None).await.unwrap();
    let mut container = container("c", "rw", labels([("containerd.io/gc.ref.content", blob.as_str())]));
    container.image = "image".to_owned();
    view.containers().create(container).await.unwrap();
    fixture.events.take();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&blob, &target]).await, [true, false]);
    assert!(has_snapshot(&view, "rw").await && has_snapshot(&view, "base").await);
    assert_eq!(
        fixture.events.events(),
        [MetadataEvent::ImageDelete { name: "image".to_owned() }],
        "G16, G28"
    );
    view.containers().delete("c").await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert!(!has_snapshot(&view, "rw").await && !has_snapshot(&view, "base").await);
    assert_eq!(alive(&view, &[&blob]).await, [false]);
}

#[tokio::test]
async fn a_lease_keeps_what_it_names_until_its_time_is_over() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    let leases = view.leases();
    for (id, expire) in [("future", FUTURE), ("past", PAST), ("malformed", "soon")] {
        leases.create(Some(id), labels([("containerd.io/gc.expire", expire)])).await.unwrap();
    }
    let mut kept = Vec::new();
    for (lease, bytes) in [("future", b"f" as &'static [u8]), ("past", b"p"), ("malformed", b"m")] {
        kept.push(put(&fixture.leased("a", lease).content(), bytes, Labels::new()).await.unwrap());
    }
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &kept.iter().collect::<Vec<_>>()).await, [true, false, true]);
    let left = leases.list(&corten_filter::Filters::all(), None, 10).await.unwrap();
    assert_eq!(
        left.iter().map(|lease| lease.id.as_str()).collect::<Vec<_>>(),
        ["future", "malformed"],
        "G21"
    );
    leases.delete("future").await.unwrap();
    leases.delete("malformed").await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &kept.iter().collect::<Vec<_>>()).await, [false; 3]);
}

#[tokio::test]
async fn a_flat_lease_keeps_only_what_it_names() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    let child = put(&view.content(), b"child", Labels::new()).await.unwrap();
    let to_child = labels([("containerd.io/gc.ref.content", child.as_str())]);
    let blob = put(&view.content(), b"blob", to_child.clone()).await.unwrap();
    let target = put(&view.content(), b"target", to_child.clone()).await.unwrap();
    commit_snapshot(&view, "below", "", to_child.clone()).await;
    commit_snapshot(&view, "above", "below", to_child).await;
    let mut image = Image::new("image", descriptor(&target));
    image.labels = labels([("containerd.io/gc.expire", PAST)]);
    view.images().create(image, None).await.unwrap();
    view.leases().create(Some("flat"), labels([("containerd.io/gc.flat", "x")])).await.unwrap();
    for (kind, id) in [("content", blob.as_str()), ("images", "image"), ("snapshots/memory", "above")] {
        let resource = Resource { kind: kind.to_owned(), id: id.to_owned() };
        view.leases().add_resource("flat", &resource).await.unwrap();
    }
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&blob, &target, &child]).await, [true, true, false]);
    assert!(has_snapshot(&view, "above").await && has_snapshot(&view, "below").await);
    assert!(view.images().get("image").await.is_ok());
}

#[tokio::test]
async fn back_references_keep_a_thing_as_long_as_its_parent() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    let of_container =
        put(&view.content(), b"1", labels([("containerd.io/gc.bref.container.x", "c")])).await.unwrap();
    let of_image = put(&view.content(), b"2", labels([("containerd.io/gc.bref.image", "i")])).await.unwrap();
    let target = put(&view.content(), b"3", Labels::new()).await.unwrap();
    let bref = labels([("containerd.io/gc.bref.content", target.as_str())]);
    commit_snapshot(&view, "of-content", "", bref).await;
    view.containers().create(container("c", "", Labels::new())).await.unwrap();
    view.images().create(Image::new("i", descriptor(&target)), None).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&of_container, &of_image]).await, [true, true]);
    assert!(has_snapshot(&view, "of-content").await);
    view.containers().delete("c").await.unwrap();
    view.images().delete("i", None).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&of_container, &of_image, &target]).await, [false; 3]);
    assert!(!has_snapshot(&view, "of-content").await);
}

/// G10-G12: a key ends after its word or goes on with `.` or `/`; behind the first `/` of a snapshotter anything goes.
#[tokio::test]
async fn references_name_content_images_and_snapshots_with_and_without_more_behind_them() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    let mut blobs = Vec::new();
    for bytes in [b"0" as &'static [u8], b"1", b"2", b"3"] {
        blobs.push(put(&view.content(), bytes, Labels::new()).await.unwrap());
    }
    let target = put(&view.content(), b"target", Labels::new()).await.unwrap();
    let mut image = Image::new("kept", descriptor(&target));
    image.labels = labels([("containerd.io/gc.expire", PAST)]);
    view.images().create(image, None).await.unwrap();
    commit_snapshot(&view, "plain", "", Labels::new()).await;
    commit_snapshot(&view, "named", "", Labels::new()).await;
    commit_snapshot(&view, "other", "", Labels::new()).await;
    let references = labels([
        ("containerd.io/gc.ref.content", blobs[0].as_str()),
        ("containerd.io/gc.ref.content.l.0", blobs[1].as_str()),
        ("containerd.io/gc.ref.content/config", blobs[2].as_str()),
        ("containerd.io/gc.ref.contents", blobs[3].as_str()),
        ("containerd.io/gc.ref.image.base", "kept"),
        ("containerd.io/gc.ref.snapshot.memory", "plain"),
        ("containerd.io/gc.ref.snapshot.memory/a/b", "named"),
        ("containerd.io/gc.ref.snapshot.elsewhere", "other"),
    ]);
    view.containers().create(container("c", "", references)).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &blobs.iter().collect::<Vec<_>>()).await, [true, true, true, false]);
    assert!(view.images().get("kept").await.is_ok());
    assert_eq!(alive(&view, &[&target]).await, [true]);
    assert!(has_snapshot(&view, "plain").await && has_snapshot(&view, "named").await);
    assert!(!has_snapshot(&view, "other").await);
}

#[tokio::test]
async fn sandboxes_keep_what_their_labels_name_and_are_never_collected() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    let blob = put(&view.content(), b"blob", Labels::new()).await.unwrap();
    let with = labels([("containerd.io/gc.ref.content", blob.as_str())]);
    let sandbox = corten_metadata::Sandbox { id: "s".to_owned(), labels: with, ..Default::default() };
    view.sandboxes().create(sandbox).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&view, &[&blob]).await, [true]);
    assert!(view.sandboxes().get("s").await.is_ok());
}

#[tokio::test]
async fn ingests_stay_for_a_day_or_as_long_as_their_lease() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    view.leases().create(Some("l"), Labels::new()).await.unwrap();
    let leased = fixture.leased("a", "l").content();
    drop(view.content().ingest("day", IngestOptions::default()).await.unwrap());
    let mut ingest = leased.ingest("leased", IngestOptions::default()).await.unwrap();
    ingest.write("bytes".into()).await.unwrap();
    drop(ingest);
    fixture.metadata.collect().await.unwrap();
    assert_eq!(view.content().ingest_status("leased").await.unwrap().offset_bytes, 5);
    view.leases().delete("l").await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert!(view.content().ingest_status("leased").await.is_err());
    assert!(view.content().ingest_status("day").await.is_ok(), "T19: it has a day");
    let below = fixture.content.list_ingests(&corten_filter::Filters::all()).await.unwrap();
    assert_eq!(below.len(), 1);
}

#[tokio::test]
async fn a_blob_of_two_namespaces_stays_until_both_let_go() {
    let fixture = Fixture::new().await;
    let (a, b) = (fixture.view("a"), fixture.view("b"));
    let root = labels([("containerd.io/gc.root", "x")]);
    let digest = put(&a.content(), b"blob", root.clone()).await.unwrap();
    put(&b.content(), b"blob", root).await.unwrap();
    a.content().delete(&digest).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert!(fixture.has_bytes(&digest));
    assert_eq!(alive(&b, &[&digest]).await, [true]);
    b.content().delete(&digest).await.unwrap();
    assert!(fixture.has_bytes(&digest), "T04: the file goes with the collection");
    fixture.metadata.collect().await.unwrap();
    assert!(!fixture.has_bytes(&digest));
}

#[tokio::test]
async fn a_blob_that_an_ingest_was_promised_is_not_removed() {
    let fixture = Fixture::new().await;
    let digest = put(&fixture.view("a").content(), b"blob", Labels::new()).await.unwrap();
    let expected = IngestOptions { expected: Some(digest.clone()), ..IngestOptions::default() };
    let mut ingest = fixture.view("b").content().ingest("ref", expected).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(alive(&fixture.view("a"), &[&digest]).await, [false]);
    assert!(fixture.has_bytes(&digest));
    ingest.commit(CommitOptions::default()).await.unwrap();
    assert_eq!(alive(&fixture.view("b"), &[&digest]).await, [true]);
}

#[tokio::test]
async fn deletions_are_followed_by_a_collection_without_being_asked() {
    let fixture = Fixture::with(|options| options.automatic = true).await;
    let view = fixture.view("a");
    let target =
        put(&view.content(), b"target", labels([("containerd.io/gc.bref.image", "image")])).await.unwrap();
    view.images().create(Image::new("image", descriptor(&target)), None).await.unwrap();
    view.images().delete("image", None).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while fixture.has_bytes(&target) || fixture.metadata.statistics().succeeded == 0 {
        assert!(Instant::now() < deadline, "nothing was collected");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collections_beside_writers_take_nothing_that_is_kept() {
    let fixture = Fixture::new().await;
    let mut writers = Vec::new();
    for number in 0..4 {
        let (view, metadata) = (fixture.view(&format!("ns{number}")), fixture.metadata.clone());
        writers.push(tokio::spawn(async move {
            for round in 0..12 {
                let lease = view.leases().create(None, Labels::new()).await.unwrap();
                let leased = metadata.view(view.namespace().clone(), Some(lease.id.clone()));
                let child = put_owned(&leased, format!("child {number} {round}")).await;
                let with = labels([("containerd.io/gc.ref.content", child.as_str())]);
                let parent = put_with(&leased, format!("parent {number} {round}"), with).await;
                view.images()
                    .create(Image::new(format!("image{round}"), descriptor(&parent)), None)
                    .await
                    .unwrap();
                view.leases().delete(&lease.id).await.unwrap();
                assert_eq!(alive(&view, &[&child, &parent]).await, [true, true], "round {round}");
                if round % 2 == 0 {
                    view.images().delete(&format!("image{round}"), None).await.unwrap();
                }
            }
        }));
    }
    while writers.iter().any(|writer| !writer.is_finished()) {
        fixture.metadata.collect().await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    fixture.metadata.collect().await.unwrap();
    let all = corten_filter::Filters::all();
    for number in 0..4 {
        let blobs = fixture.view(&format!("ns{number}")).content().list(&all, None, 1000).await.unwrap();
        assert_eq!(blobs.len(), 12, "two blobs for each of the six images that are left");
    }
    assert_eq!(fixture.content.list(&all, None, 1000).await.unwrap().len(), 48);
}

async fn put_owned(view: &View, text: String) -> Digest {
    put_with(view, text, Labels::new()).await
}

async fn put_with(view: &View, text: String, with: Labels) -> Digest {
    put(&view.content(), text.leak().as_bytes(), with).await.unwrap()
}

/// The time of the tests is far from both.
#[tokio::test]
async fn conditional_references_keep_snapshots_that_were_used_as_they_say() {
    let fixture = Fixture::new().await;
    let view = fixture.view("a");
    let used = |when: &str| labels([("containerd.io/gc.cond.value-usedat", when)]);
    for (name, with) in [
        ("long-ago", used(PAST)),
        ("just-now", used(FUTURE)),
        ("never", Labels::new()),
        ("long-ago-for-blob", used(PAST)),
        ("just-now-for-blob", used(FUTURE)),
    ] {
        commit_snapshot(&view, name, "", with).await;
    }
    let conditional = |conditions: &str, names: &[&str]| -> Labels {
        let label = |name: &&str| {
            (format!("containerd.io/gc.cond.snapshot.memory/{name}"), format!("{conditions}|{name}"))
        };
        names.iter().map(label).collect()
    };
    let blob_labels = conditional("usedat>1h", &["long-ago-for-blob", "just-now-for-blob"]);
    let blob = put(&view.content(), b"blob", blob_labels).await.unwrap();
    let mut image = Image::new("image", descriptor(&blob));
    image.labels = conditional("usedat<1h", &["long-ago", "just-now", "never"]);
    view.images().create(image, None).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(fixture.snapshotter.short_names(), ["just-now", "long-ago-for-blob"]);
    view.images().delete("image", None).await.unwrap();
    fixture.metadata.collect().await.unwrap();
    assert_eq!(fixture.snapshotter.short_names(), [""; 0], "a condition keeps nothing by itself");
}

#[tokio::test]
async fn who_asks_for_it_is_told_that_a_collection_has_ended() {
    let mut fixture = Fixture::new().await;
    let ended = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&ended);
    let count = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    fixture.reopen(|options| options.after_collection = Some(Arc::new(count))).await;
    fixture.metadata.collect().await.unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}
