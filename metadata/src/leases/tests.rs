use std::sync::Arc;

use corten_content_store::LocalStore;
use corten_disk::Disk;

use super::*;
use crate::Options;

const MANY: usize = 2 * RESOURCES_TOGETHER + 500;

struct Fixture {
    metadata: Metadata,
    leases: Leases,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let content = Arc::new(LocalStore::open(&folder.path().join("content"), Disk::new()).expect("open"));
        let mut options = Options::new(folder.path().join("metadata.db"), content);
        options.automatic = false;
        let metadata = Metadata::open(options).await.expect("open");
        let leases = metadata.view("default".parse().expect("a name"), None).leases();
        Self { metadata, leases, _folder: folder }
    }

    /// A lease that names [`MANY`] images.
    async fn large(&self, id: &'static str) {
        self.leases.create(Some(id), Labels::new()).await.expect("create");
        let namespace: Namespace = "default".parse().expect("a name");
        let fill = move |change: &mut Change<'_>| {
            for number in 0..MANY {
                change.lease(&namespace, Some(id), "images", &format!("image-{number}"))?;
            }
            Ok(())
        };
        self.metadata.write(fill).await.expect("fill");
    }

    async fn rows(&self) -> usize {
        let count = |connection: &Connection| {
            let mut count = 0;
            row::query(connection, "SELECT count(*) FROM lease_resources", [], |row| {
                count = row.get(0)?;
                Ok(())
            })?;
            Ok(count)
        };
        self.metadata.read(count).await.expect("count")
    }
}

#[tokio::test]
async fn a_large_lease_goes_at_once_and_what_it_named_with_the_next_collection() {
    let fixture = Fixture::new().await;
    fixture.large("large").await;
    fixture.leases.create(Some("small"), Labels::new()).await.expect("create");
    let kept = Resource { kind: "images".to_owned(), id: "kept".to_owned() };
    fixture.leases.add_resource("small", &kept).await.expect("add");

    fixture.leases.delete("large").await.expect("delete");
    assert_eq!(fixture.rows().await, MANY - RESOURCES_TOGETHER + 1, "the rest is left");
    let listed = fixture.leases.list(&Filters::all(), None, usize::MAX).await.expect("list");
    assert_eq!(listed.len(), 1, "the lease itself is gone");

    fixture.metadata.collect().await.expect("collect");
    assert_eq!(fixture.rows().await, 1);
    assert_eq!(fixture.leases.list_resources("small").await.expect("list"), [kept]);
}

#[tokio::test]
async fn a_lease_with_the_id_of_a_large_one_that_is_gone_names_nothing() {
    let fixture = Fixture::new().await;
    fixture.large("again").await;
    fixture.leases.delete("again").await.expect("delete");
    fixture.leases.create(Some("again"), Labels::new()).await.expect("create");
    assert_eq!(fixture.leases.list_resources("again").await.expect("list"), []);
    let own = Resource { kind: "images".to_owned(), id: "image-1".to_owned() };
    fixture.leases.add_resource("again", &own).await.expect("add");
    fixture.metadata.collect().await.expect("collect");
    assert_eq!(fixture.leases.list_resources("again").await.expect("list"), [own]);
}
