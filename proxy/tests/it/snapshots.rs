//! What a snapshotter is asked, and what it answers.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use corten_filter::Filters;
use corten_proxy::SnapshotterProxy;
use corten_snapshotter::{Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Usage};
use corten_types::{Error, ErrorKind, Labels, Mount, Result, UpdateMask};

use crate::{TestServer, scope, snapshots_service as service};

/// Remembers what it is asked, and answers with constants.
#[derive(Clone, Default)]
struct Recorder {
    calls: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

fn info(name: &str, kind: Kind) -> SnapshotInfo {
    SnapshotInfo {
        kind,
        name: name.to_owned(),
        parent: "below".to_owned(),
        labels: labels("a", "b"),
        created_at: UNIX_EPOCH + Duration::from_nanos(1_000_000_001),
        updated_at: UNIX_EPOCH + Duration::from_secs(2),
    }
}

fn labels(key: &str, value: &str) -> Labels {
    Labels::from([(key.to_owned(), value.to_owned())])
}

fn some_mounts() -> Vec<Mount> {
    let options = vec!["lowerdir=/l".to_owned(), "ro".to_owned()];
    vec![Mount { kind: "overlay".to_owned(), source: "overlay".to_owned(), target: String::new(), options }]
}

#[async_trait]
impl SnapshotReader for Recorder {
    async fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        match key {
            "view" => Ok(info(key, Kind::View)),
            "active" => Ok(info(key, Kind::Active)),
            "committed" => Ok(info(key, Kind::Committed)),
            _ => Err(Error::not_found(format!("snapshot {key}"))),
        }
    }

    async fn list(
        &self,
        filters: &Filters,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<SnapshotInfo>> {
        self.note(format!("list {:?}", filters.texts()));
        // Not in order, which the protocol allows.
        Ok(["d", "a", "c", "b", "e"].map(|name| info(name, Kind::Committed)).to_vec())
    }

    async fn usage(&self, key: &str) -> Result<Usage> {
        self.note(format!("usage {key}"));
        Ok(Usage { size_bytes: 4096, inodes: 3 })
    }
}

#[async_trait]
impl SnapshotWriter for Recorder {
    async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.note(format!("prepare {key} {parent} {labels:?}"));
        Ok(some_mounts())
    }

    async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.note(format!("view {key} {parent} {labels:?}"));
        Ok(some_mounts())
    }

    async fn commit(&self, name: &str, key: &str, labels: Labels, parent: Option<&str>) -> Result<()> {
        self.note(format!("commit {name} {key} {labels:?} {parent:?}"));
        Ok(())
    }
}

#[async_trait]
impl SnapshotKeeper for Recorder {
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.note(format!("mounts {key}"));
        Ok(some_mounts())
    }

    async fn update(&self, key: &str, labels: &Labels, mask: &UpdateMask) -> Result<SnapshotInfo> {
        self.note(format!("update {key} {labels:?} {:?}", mask.as_slice()));
        Ok(info(key, Kind::Active))
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.note(format!("remove {key}"));
        Err(Error::failed_precondition(format!("snapshot {key} has children")))
    }

    async fn cleanup(&self) -> Result<()> {
        self.note("cleanup".to_owned());
        Err(Error::unimplemented("nothing to clean up"))
    }
}

#[tokio::test]
async fn every_question_and_answer_arrives_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::default();
    let server = TestServer::serve(folder.path(), service::service(Arc::new(recorder.clone())));
    let proxy = SnapshotterProxy::new(&server.connection(), scope(), service::NAME);

    assert_eq!(proxy.prepare("k", "p", labels("a", "b")).await.unwrap(), some_mounts());
    assert_eq!(proxy.view("v", "", Labels::new()).await.unwrap(), some_mounts());
    assert_eq!(proxy.mounts("k").await.unwrap(), some_mounts());
    proxy.commit("n", "k", labels("c", "d"), None).await.unwrap();
    proxy.commit("n", "k", Labels::new(), Some("base")).await.unwrap();
    assert_eq!(proxy.usage("k").await.unwrap(), Usage { size_bytes: 4096, inodes: 3 });
    let mask = UpdateMask::of(["labels.e"]);
    assert_eq!(proxy.update("k", &labels("e", "f"), &mask).await.unwrap(), info("k", Kind::Active));
    assert_eq!(proxy.remove("k").await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    assert_eq!(proxy.cleanup().await.unwrap_err().kind(), ErrorKind::Unimplemented);
    assert_eq!(
        *recorder.calls.lock().unwrap(),
        [
            r#"prepare k p {"a": "b"}"#,
            "view v  {}",
            "mounts k",
            r#"commit n k {"c": "d"} None"#,
            r#"commit n k {} Some("base")"#,
            "usage k",
            r#"update k {"e": "f"} ["labels.e"]"#,
            "remove k",
            "cleanup",
        ]
    );
    for (key, kind) in [("view", Kind::View), ("active", Kind::Active), ("committed", Kind::Committed)] {
        assert_eq!(proxy.stat(key).await.unwrap(), info(key, kind));
    }
    assert_eq!(proxy.stat("absent").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_listing_is_put_in_order_and_cut_into_pages() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::default();
    let server = TestServer::serve(folder.path(), service::service(Arc::new(recorder.clone())));
    let proxy = SnapshotterProxy::new(&server.connection(), scope(), service::NAME);
    let filters = Filters::parse(&["kind==committed", "name~=x"]).unwrap();
    let names = |page: Vec<SnapshotInfo>| page.into_iter().map(|info| info.name).collect::<Vec<_>>();
    assert_eq!(names(proxy.list(&filters, None, 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(proxy.list(&filters, Some("b"), 10).await.unwrap()), ["c", "d", "e"]);
    assert_eq!(recorder.calls.lock().unwrap()[0], r#"list ["kind==committed", "name~=x"]"#);
}

#[tokio::test]
async fn the_name_of_the_snapshotter_goes_with_every_call() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::serve(folder.path(), service::service(Arc::new(Recorder::default())));
    let proxy = SnapshotterProxy::new(&server.connection(), scope(), "other");
    let error = proxy.stat("view").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("snapshotter not loaded: other"), "{error:?}");
}
