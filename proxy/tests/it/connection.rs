//! Row DM99: dialled when needed, again when broken, and waited for a little.

use std::{sync::Arc, time::Duration};

use corten_content_store::{BlobReader, LocalStore};
use corten_disk::Disk;
use corten_filter::Filters;
use corten_proxy::{Connection, ContentProxy};
use corten_types::ErrorKind;

use crate::{TestServer, content_service, scope};

#[tokio::test]
async fn an_absent_server_is_unavailable_when_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nobody.sock");
    let connection = Connection::unix_with_patience(&path, Duration::from_millis(30));
    assert_eq!(connection.path(), path);
    let proxy = ContentProxy::new(&connection, scope());
    for _ in 0..2 {
        let error = proxy.list(&Filters::all(), None, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_comes_a_little_later_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let connection =
        Connection::unix_with_patience(&folder.path().join("grpc.sock"), Duration::from_secs(60));
    let proxy = ContentProxy::new(&connection, scope());
    let call = tokio::spawn(async move { proxy.list(&Filters::all(), None, 1).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let store = LocalStore::open(&folder.path().join("store"), Disk::new()).unwrap();
    let _server = TestServer::serve(folder.path(), content_service::service(Arc::new(store)));
    assert!(call.await.unwrap().unwrap().is_empty());
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let (server, proxy) = crate::content(folder.path());
    assert!(proxy.list(&Filters::all(), None, 1).await.unwrap().is_empty());
    server.stop().await;
    let (_server, _) = crate::content(folder.path());
    // The call that meets the broken connection may fail; the one after it must not.
    let _either_way = proxy.list(&Filters::all(), None, 1).await;
    assert!(proxy.list(&Filters::all(), None, 1).await.unwrap().is_empty());
}
