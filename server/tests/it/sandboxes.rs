//! The records of sandboxes (SB1-SB3).

use corten_api::containerd::{
    services::sandbox::v1::{
        StoreCreateRequest, StoreDeleteRequest, StoreGetRequest, StoreListRequest, StoreUpdateRequest,
        store_client::StoreClient,
    },
    types::{Sandbox, sandbox::Runtime},
};
use prost_types::{Any, Timestamp};
use tonic::Code;

use crate::support::{Server, in_namespace, request};

fn any(text: &str) -> Any {
    Any { type_url: "test".into(), value: text.as_bytes().to_vec() }
}

fn sandbox(id: &str) -> Sandbox {
    Sandbox {
        sandbox_id: id.into(),
        runtime: Some(Runtime { name: "io.containerd.runc.v2".into(), options: Some(any("options")) }),
        spec: Some(any("spec")),
        labels: [("a".to_owned(), "1".to_owned())].into(),
        created_at: Some(Timestamp { seconds: 1, nanos: 0 }),
        extensions: [("a".to_owned(), any("1")), ("b".to_owned(), any("2"))].into(),
        sandboxer: "shim".into(),
        ..Sandbox::default()
    }
}

fn create(id: &str) -> StoreCreateRequest {
    StoreCreateRequest { sandbox: Some(sandbox(id)) }
}

fn get(id: &str) -> StoreGetRequest {
    StoreGetRequest { sandbox_id: id.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_are_created_told_listed_and_deleted() {
    let server = Server::whole().await;
    let mut client = StoreClient::new(server.channel().await);
    let none = client.list(request(StoreListRequest::default())).await.unwrap().into_inner();
    assert!(none.list.is_empty());
    let created = client.create(request(create("one"))).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(created.created_at, created.updated_at);
    assert!(created.created_at.as_ref().unwrap().seconds > 1, "the time is the server's");
    let expected =
        Sandbox { created_at: created.created_at, updated_at: created.updated_at, ..sandbox("one") };
    assert_eq!(created, expected);
    assert_eq!(client.get(request(get("one"))).await.unwrap().into_inner().sandbox, Some(created));
    assert_eq!(client.create(request(create("one"))).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(client.create(request(create("a..b"))).await.unwrap_err().code(), Code::InvalidArgument);
    let nothing = client.create(request(StoreCreateRequest::default())).await;
    assert_eq!(nothing.unwrap_err().code(), Code::InvalidArgument);
    client
        .create(request(StoreCreateRequest {
            sandbox: Some(Sandbox { sandbox_id: "two".into(), ..Sandbox::default() }),
        }))
        .await
        .unwrap();
    for (filters, expected) in
        [(vec![], vec!["one", "two"]), (vec!["id==two"], vec!["two"]), (vec!["labels.a==1"], vec!["one"])]
    {
        let filters = filters.into_iter().map(str::to_owned).collect();
        let listed = client.list(request(StoreListRequest { filters })).await.unwrap().into_inner().list;
        let ids: Vec<_> = listed.iter().map(|sandbox| sandbox.sandbox_id.as_str()).collect();
        assert_eq!(ids, expected);
    }
    let malformed = StoreListRequest { filters: vec!["==".into()] };
    assert_eq!(client.list(request(malformed)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.get(in_namespace("other", get("one"))).await.unwrap_err().code(), Code::NotFound);
    let delete = || request(StoreDeleteRequest { sandbox_id: "one".into() });
    client.delete(delete()).await.unwrap();
    assert_eq!(client.delete(delete()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.get(request(get("one"))).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_follow_their_paths_and_extensions_are_merged() {
    let server = Server::whole().await;
    let mut client = StoreClient::new(server.channel().await);
    client.create(request(create("one"))).await.unwrap();
    let update = |sandbox: Sandbox, fields: &[&str]| {
        let fields = fields.iter().map(|&field| field.to_owned()).collect();
        request(StoreUpdateRequest { sandbox: Some(sandbox), fields })
    };
    let changed = Sandbox {
        labels: [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "3".to_owned())].into(),
        extensions: [("a".to_owned(), any("changed"))].into(),
        spec: Some(any("other")),
        ..sandbox("one")
    };
    let told =
        client.update(update(changed.clone(), &["labels.a"])).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(told.labels, [("a".to_owned(), "2".to_owned())].into());
    assert_eq!(told.spec, Some(any("spec")), "the mask does not name it");
    client.update(update(changed.clone(), &["extensions"])).await.unwrap();
    let stored = client.get(request(get("one"))).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(stored.extensions["a"], any("changed"));
    assert_eq!(stored.extensions["b"], any("2"), "keys that the update lacks stay");
    assert_eq!(stored.created_at, told.created_at);
    assert!(stored.updated_at.unwrap().seconds >= told.updated_at.unwrap().seconds);
    client.update(update(changed.clone(), &["spec"])).await.unwrap();
    client.update(update(changed.clone(), &[])).await.unwrap();
    let stored = client.get(request(get("one"))).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!((stored.labels.len(), stored.spec), (2, Some(any("other"))));

    let renamed = Sandbox {
        runtime: Some(Runtime { name: "other".into(), options: None }),
        sandboxer: "other".into(),
        ..changed.clone()
    };
    let refused = client.update(update(renamed.clone(), &[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    client.update(update(renamed, &["runtime"])).await.unwrap();
    let stored = client.get(request(get("one"))).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!((stored.runtime.unwrap().name.as_str(), stored.sandboxer.as_str()), ("other", "shim"));
    for wrong in ["sandboxer", "id", "created_at", "runtime.name"] {
        let refused = client.update(update(changed.clone(), &[wrong])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong}");
    }
    let missing = client.update(update(sandbox("absent"), &[])).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    server.stop().await;
}
