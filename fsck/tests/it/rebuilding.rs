//! Lost databases: quarantine, rebuilding, release.

use std::fs;

use corten_filter::Filters;
use corten_fsck::{Kind, Request};

use crate::world::{OVERLAY, World, chain, damage, digests};

fn rebuilding(accept: bool) -> Request {
    Request { rebuild: true, accept, ..Request::default() }
}

async fn everything(world: &World) -> Vec<String> {
    let served = world.serve().await.unwrap();
    let mut found = Vec::new();
    for namespace in ["one", "two"] {
        let view = served.view(namespace);
        let all = Filters::all();
        for image in view.images().list(&all, None, 1000).await.unwrap() {
            found.push(format!("{namespace} image {} {}", image.name, image.target.digest));
        }
        for container in view.containers().list(&all, None, 1000).await.unwrap() {
            found.push(format!("{namespace} container {} {:?}", container.id, container.spec));
        }
        for lease in view.leases().list(&all, None, 1000).await.unwrap() {
            let kept = view.leases().list_resources(&lease.id).await.unwrap();
            if lease.id != "recovered" {
                found.push(format!("{namespace} lease {} {kept:?}", lease.id));
            }
        }
        for digest in digests(&view).await {
            found.push(format!("{namespace} {digest}"));
        }
        for row in 1..3 {
            let key = chain(&["base", "app"])[row - 1].clone();
            let row = served.metadata.snapshot_row(namespace, OVERLAY, &key).await.unwrap();
            found.push(format!("{namespace} {:?}", row.map(|row| (row.backend_key, row.parent))));
        }
    }
    served.close().await;
    found
}

#[tokio::test]
async fn a_database_without_its_first_page_gives_its_rows_back() {
    let world = World::new().await;
    let before = everything(&world).await;
    let path = world.path("meta/meta.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();

    let served = world.serve().await.unwrap();
    assert!(!served.metadata.health().is_healthy(), "it was set aside");
    assert!(served.metadata.collect().await.is_err());
    served.close().await;
    let report = world.check().await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.kind == Kind::Quarantine));
    let summary = world.fsck(&rebuilding(true)).await.unwrap();
    assert_eq!(summary.damage, 0);
    assert_eq!(everything(&world).await, before);
    let report = world.check().await.unwrap();
    assert!(report.is_clean(), "{:?}", damage(&report));
}

#[tokio::test]
async fn without_any_database_rows_are_made_of_what_describes_itself() {
    let world = World::new().await;
    let files = world.files();
    let bundle = world.path("bundles/one/runs");
    fs::create_dir_all(&bundle).unwrap();
    fs::write(bundle.join("config.json"), "{}").unwrap();
    fs::write(bundle.join("shim-binary-path"), "/usr/bin/containerd-shim-runc-v2").unwrap();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        let _ = fs::remove_file(world.path("meta").join(name));
    }
    let summary = world.fsck(&rebuilding(true)).await.unwrap();
    assert_eq!(summary.damage, 0);
    let served = world.serve().await.unwrap();
    assert!(served.metadata.health().is_healthy());
    for namespace in ["one", "two"] {
        let found = digests(&served.view(namespace)).await;
        assert!(found.len() >= 4, "config, manifest and layers of {namespace}: {found:?}");
        for key in chain(&["base", "app"]) {
            let row = served.metadata.snapshot_row(namespace, OVERLAY, &key).await.unwrap();
            assert!(row.is_some(), "{namespace} {key}");
        }
        assert!(!served.view(namespace).leases().list_resources("recovered").await.unwrap().is_empty());
    }
    let container = served.view("one").containers().get("runs").await.unwrap();
    assert_eq!(container.runtime.name, "io.containerd.runc.v2");
    served.metadata.collect().await.unwrap();
    served.close().await;
    let ingests = |path: &std::path::PathBuf| path.starts_with("content/ingest");
    for (path, bytes) in files.iter().filter(|(path, _)| !ingests(path)) {
        assert_eq!(world.files().get(path), Some(bytes), "{} is kept", path.display());
    }
}

#[tokio::test]
async fn a_snapshotters_database_is_taken_over_and_nothing_is_lost_meanwhile() {
    let world = World::new().await;
    let before = everything(&world).await;
    let files = world.files();
    let path = world.path("overlayfs/metastore.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0);
    fs::write(&path, bytes).unwrap();
    let served = world.serve().await.unwrap();
    assert!(!served.metadata.health().is_healthy(), "rows of lost snapshots must stay");
    served.close().await;
    let summary = world.fsck(&rebuilding(true)).await.unwrap();
    assert_eq!(summary.damage, 0);
    assert_eq!(everything(&world).await, before);
    assert_eq!(world.files(), files);
}

#[tokio::test]
async fn a_folder_of_another_store_is_held_until_it_is_accepted() {
    for name in ["content/metadata-id", "overlayfs/metadata-id", "overlayfs/store-id"] {
        let world = World::new().await;
        fs::write(world.path(name), "0123456789abcdef0123456789abcdef\n").unwrap();
        let files = world.files();
        let served = world.serve().await.unwrap();
        assert!(!served.metadata.health().is_healthy(), "{name}");
        served.close().await;
        assert_eq!(world.files(), files, "{name}");
        let summary = world.fsck(&Request { accept: true, ..Request::default() }).await.unwrap();
        assert_eq!((summary.damage, summary.mended > 0), (0, true), "{name}");
        let served = world.serve().await.unwrap();
        assert!(served.metadata.health().is_healthy(), "{name}");
        served.metadata.collect().await.unwrap();
        served.close().await;
    }
}
