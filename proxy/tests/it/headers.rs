//! Rows X03 and X06.

use corten_content_store::{BlobReader, IngestOptions, Ingester};
use corten_filter::Filters;
use corten_proxy::{ContentProxy, Scope};
use corten_types::ErrorKind;

#[tokio::test]
async fn every_call_names_the_namespace_and_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let (server, proxy) = crate::content(folder.path());
    proxy.list(&Filters::all(), None, 1).await.unwrap();
    let scope = Scope::new(&"k8s.io".parse().unwrap()).under_lease("lease-1").unwrap();
    let leased = ContentProxy::new(&server.connection(), scope);
    leased.ingest("k", IngestOptions::default()).await.map(drop).unwrap();
    let seen = server.headers.lock().unwrap().clone();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(seen, [(text("test"), None), (text("k8s.io"), text("lease-1"))]);
}

#[test]
fn a_lease_that_no_header_can_hold_is_refused() {
    let scope = Scope::new(&"test".parse().unwrap());
    assert_eq!(scope.under_lease("a\nb").unwrap_err().kind(), ErrorKind::InvalidArgument);
}
