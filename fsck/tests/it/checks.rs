//! What a check finds, and what a repair does about it.

use std::fs;

use corten_fsck::{Kind, RepairOptions, Request, Scope, Store, check, repair};
use corten_metadata::{BlobRow, Image, In, Stored, Table};
use corten_types::{Descriptor, Labels};

use crate::world::{OVERLAY, World, chain, damage, digest, digests, image, put};

fn repairing(even_in_use: bool) -> Request {
    Request { repair: Some(RepairOptions { even_in_use }), ..Request::default() }
}

#[tokio::test]
async fn a_store_that_nobody_damaged_is_clean() {
    let (closed, crashed) = World::closed_and_crashed().await;
    for world in [closed, crashed] {
        let report = world.check().await.unwrap();
        assert!(report.is_clean(), "{:?}", damage(&report));
        assert!(report.blobs > 5 && report.trees >= 5 && report.rows > 60, "{report:?}");
    }
}

#[tokio::test]
async fn a_changed_blob_is_found_with_what_it_affects_and_pulled_again_after_a_repair() {
    let world = World::new().await;
    let served = world.serve().await.unwrap();
    let layer = served.view("one").images().get("localhost/base:1").await.unwrap().target.digest;
    served.close().await;
    let path = world.blob(&layer);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, &bytes).unwrap();

    let report = world.check().await.unwrap();
    let found: Vec<_> = report.findings.iter().filter(|one| one.kind == Kind::BlobDamaged).collect();
    let [finding] = found.as_slice() else { panic!("{report:?}") };
    let affected: Vec<String> = finding.affects.iter().map(ToString::to_string).collect();
    for wanted in ["image one/localhost/base:1", "image two/localhost/base:1", "container one/box"] {
        assert!(affected.iter().any(|one| one == wanted), "{affected:?}");
    }

    let summary = world.fsck(&repairing(false)).await.unwrap();
    assert_eq!((summary.damage, summary.mended), (0, 1));
    assert!(summary.incomplete > 0 || summary.exit_code() == 0);
    assert!(!path.exists(), "it was set aside");
    let report = world.check().await.unwrap();
    assert!(report.is_clean(), "{:?}", damage(&report));
    assert!(report.findings.iter().any(|finding| finding.kind == Kind::ImageIncomplete));
    let aside = report.findings.iter().find(|finding| finding.kind == Kind::SetAside).unwrap();
    let folder = aside.thing.to_string().trim_start_matches("file ").to_owned();
    let kept = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(kept).unwrap(), bytes, "byte for byte");

    let served = world.serve().await.unwrap();
    for namespace in ["one", "two"] {
        image(&served, namespace, "localhost/base:1", &["base", "app"]).await;
    }
    served.close().await;
    let report = world.check().await.unwrap();
    let incomplete: Vec<_> = report.findings.iter().filter(|one| one.kind == Kind::ImageIncomplete).collect();
    assert!(report.is_clean() && incomplete.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_tree_that_a_container_uses_is_left_alone_unless_asked() {
    let world = World::new().await;
    let served = world.serve().await.unwrap();
    let inspector = served.inspector();
    let base = chain(&["base"]).pop().unwrap();
    let row = served.metadata.snapshot_row("one", OVERLAY, &base).await.unwrap().unwrap();
    let id = inspector.row(&row.backend_key).unwrap().unwrap().id;
    served.close().await;
    let file = world.path(&format!("overlayfs/snapshots/{id}/fs/base-2"));
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 0x40;
    fs::write(&file, bytes).unwrap();

    let report = world.check().await.unwrap();
    let found = damage(&report);
    assert!(found.len() == 1 && found[0].contains("base-2"), "{found:?}");
    let summary = world.fsck(&repairing(false)).await.unwrap();
    assert_eq!((summary.damage, summary.mended), (1, 0), "a container uses it");
    assert!(file.exists());

    let summary = world.fsck(&repairing(true)).await.unwrap();
    assert_eq!((summary.damage, summary.mended), (0, 1));
    let report = world.check().await.unwrap();
    assert!(report.is_clean(), "{:?}", damage(&report));
    assert!(report.findings.iter().any(|one| one.kind == Kind::ContainerWithoutSnapshot));
    let served = world.serve().await.unwrap();
    image(&served, "one", "localhost/base:1", &["base", "app"]).await;
    served.close().await;
    let report = world.check().await.unwrap();
    assert!(report.is_clean(), "{:?}", damage(&report));
}

#[tokio::test]
async fn checks_and_repairs_go_on_beside_a_daemon_that_serves() {
    let world = World::new().await;
    let served = world.serve().await.unwrap();
    let inspectors = [(OVERLAY.to_owned(), served.inspector())].into();
    let store = Store::serving(served.metadata.clone(), served.content.clone(), inspectors, None);
    let view = served.view("three");
    let writer = tokio::spawn(async move {
        for number in 0..200_u32 {
            let digest = put(&view, &number.to_le_bytes().repeat(500), Labels::new()).await;
            if number % 2 == 0 {
                corten_content_store::BlobWriter::delete(&view.content(), &digest).await.unwrap();
            }
        }
    });
    let mut rounds = 0;
    while rounds == 0 || !writer.is_finished() {
        let report = check(&store, &Scope::default(), &mut |_| {}).await.unwrap();
        assert!(report.is_clean(), "{:?}", damage(&report));
        rounds += 1;
    }
    writer.await.unwrap();

    let victim = digests(&served.view("two")).await.remove(0);
    fs::remove_file(world.blob(&victim)).unwrap();
    let report = check(&store, &Scope::default(), &mut |_| {}).await.unwrap();
    assert_eq!(damage(&report).len(), 1, "{report:?}");
    let repaired = repair(&store, report, RepairOptions::default(), &mut |_| {}).await.unwrap();
    assert_eq!((repaired.mended, repaired.left), (1, 0));
    assert!(check(&store, &Scope::default(), &mut |_| {}).await.unwrap().is_clean());
    served.close().await;
}

#[tokio::test]
async fn a_scope_limits_what_is_looked_at() {
    let world = World::new().await;
    let served = world.serve().await.unwrap();
    let lost = put(&served.view("two"), b"only two has this", Labels::new()).await;
    served.close().await;
    fs::remove_file(world.blob(&lost)).unwrap();
    let store = Store::open(world.layout()).await.unwrap();
    let nothing = Scope { blobs: false, trees: false, rows: false, namespace: None };
    let of = |namespace: &str| Some(namespace.to_owned());
    for (scope, wanted) in [
        (Scope { blobs: true, ..nothing.clone() }, 1),
        (Scope { trees: true, ..nothing.clone() }, 0),
        (Scope { blobs: true, namespace: of("two"), ..nothing.clone() }, 1),
        (Scope { blobs: true, namespace: of("one"), ..nothing }, 0),
    ] {
        let report = check(&store, &scope, &mut |_| {}).await.unwrap();
        assert_eq!(damage(&report).len(), wanted, "{scope:?}: {report:?}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_row_with_a_wrong_checksum_means_quarantine_until_it_is_repaired_and_accepted() {
    let world = World::new().await;
    let served = world.serve().await.unwrap();
    let page = served.metadata.stored(Table::Images, None, 1000).await.unwrap();
    assert!(page.rows.iter().all(|row| matches!(row, Stored::Image(_))));
    served.close().await;
    let path = world.path("meta/meta.db");
    let mut bytes = fs::read(&path).unwrap();
    let name = b"localhost/many:17";
    let places: Vec<usize> =
        (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    for at in places {
        // Another media type: the key and the order of rows stay.
        bytes[at + name.len()] ^= 1;
    }
    fs::write(&path, bytes).unwrap();

    let report = world.check().await.unwrap();
    let kinds: Vec<Kind> = report.findings.iter().map(|finding| finding.kind).collect();
    assert!(kinds.contains(&Kind::RowDamaged) && kinds.contains(&Kind::Quarantine), "{report:?}");
    let served = world.serve().await.unwrap();
    assert!(!served.metadata.health().is_healthy());
    assert!(served.metadata.collect().await.is_err());
    served.close().await;
    let refused = world.fsck(&Request { accept: true, ..Request::default() }).await.unwrap_err();
    assert!(refused.message().contains("repair them first"), "{refused}");

    let summary = world.fsck(&Request { accept: true, ..repairing(false) }).await.unwrap();
    assert_eq!(summary.damage, 0);
    let report = world.check().await.unwrap();
    assert!(report.is_clean(), "{:?}", damage(&report));
    let served = world.serve().await.unwrap();
    assert!(served.metadata.health().is_healthy());
    let held = served.view("one").leases().list_resources("recovered").await.unwrap();
    assert!(!held.is_empty(), "what the row may have kept is held");
    served.close().await;
}

#[tokio::test]
async fn more_rows_and_files_than_a_page_are_all_looked_at() {
    const COUNT: u64 = 2500;
    let world = World::new().await;
    let served = world.serve().await.unwrap();
    let digest_of = |number: u64| digest(&number.to_le_bytes());
    let now = std::time::SystemTime::now();
    let lost = (0..COUNT).flat_map(|number| {
        let blob = |namespace: &str| {
            Stored::Blob(BlobRow {
                namespace: namespace.to_owned(),
                digest: digest_of(number),
                size_bytes: 8,
                labels: Labels::new(),
                created_at: now,
                updated_at: now,
            })
        };
        let target = Descriptor::new("application/octet-stream", digest_of(2 * COUNT + number), 8);
        let record = Image::new(format!("localhost/lost:{number}"), target);
        [blob("one"), blob("two"), Stored::Image(In { namespace: "one".to_owned(), record })]
    });
    assert_eq!(served.metadata.restore(lost.collect()).await.unwrap().len() as u64, 3 * COUNT);
    served.close().await;
    for number in COUNT..2 * COUNT {
        fs::write(world.blob(&digest_of(number)), number.to_le_bytes()).unwrap();
    }

    let store = Store::open(world.layout()).await.unwrap();
    for (namespace, incomplete, unknown) in [(None, COUNT, COUNT), (Some("two"), 0, 0)] {
        let scope = Scope { namespace: namespace.map(str::to_owned), ..Scope::default() };
        let report = check(&store, &scope, &mut |_| {}).await.unwrap();
        let count = |kind| report.findings.iter().filter(|finding| finding.kind == kind).count() as u64;
        assert_eq!(count(Kind::BlobMissing), COUNT, "once each, whoever has rows: {namespace:?}");
        assert_eq!(count(Kind::ImageIncomplete), incomplete, "{namespace:?}");
        assert_eq!(count(Kind::BlobUnknown), unknown, "{namespace:?}");
        assert_eq!(report.blobs > COUNT, namespace.is_none(), "{}", report.blobs);
        assert!(report.rows > 3 * COUNT);
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_run_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    let world = World::new().await;
    let store = Store::open(world.layout()).await.unwrap();
    let request = repairing(false);
    let mut sink = |_| {};
    let run = corten_fsck::run(&store, &request, &mut sink);
    is_send(&run);
    run.await.unwrap();
    store.close().await.unwrap();
}
