//! Namespaces, containers, images, leases and the daemon's own description.

use corten_api::containerd::{
    services::{
        containers::v1::{
            Container, CreateContainerRequest, DeleteContainerRequest, GetContainerRequest,
            ListContainersRequest, UpdateContainerRequest, container::Runtime,
            containers_client::ContainersClient,
        },
        events::v1::{SubscribeRequest, events_client::EventsClient},
        images::v1::{
            CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ListImagesRequest,
            UpdateImageRequest, images_client::ImagesClient,
        },
        introspection::v1::{PluginInfoRequest, PluginsRequest, introspection_client::IntrospectionClient},
        leases::v1::{
            AddResourceRequest, CreateRequest, DeleteRequest, DeleteResourceRequest, ListRequest,
            ListResourcesRequest, Resource, leases_client::LeasesClient,
        },
        namespaces::v1::{
            CreateNamespaceRequest, DeleteNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest,
            Namespace, UpdateNamespaceRequest, namespaces_client::NamespacesClient,
        },
    },
    types::Descriptor,
};
use corten_types::Labels;
use prost_types::{Any, FieldMask};
use tonic::Code;

use crate::support::{Server, in_namespace, request};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|&path| path.into()).collect() })
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_kept_without_a_namespace_of_the_request() {
    let server = Server::whole().await;
    let mut client = NamespacesClient::new(server.channel().await);
    let namespace = |labels| Some(Namespace { name: "one".into(), labels });
    let create = CreateNamespaceRequest { namespace: namespace(labels(&[("a", "b")])) };
    client.create(create.clone()).await.unwrap();
    assert_eq!(client.create(create).await.unwrap_err().code(), Code::AlreadyExists);
    let update = UpdateNamespaceRequest {
        namespace: namespace(labels(&[("a", "c"), ("d", "e")])),
        update_mask: mask(&["labels.a"]),
    };
    assert_eq!(client.update(update).await.unwrap().into_inner().namespace, None, "nothing is told");
    let get = |name: &str| GetNamespaceRequest { name: name.into() };
    let found = client.get(get("one")).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!(found.labels, labels(&[("a", "c")]));
    let absent = client.get(get("absent")).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!((absent.name.as_str(), absent.labels), ("absent", Labels::new()));
    let listed =
        client.list(ListNamespacesRequest { filter: "==".into() }).await.unwrap().into_inner().namespaces;
    assert_eq!(listed.len(), 1);
    client.delete(DeleteNamespaceRequest { name: "one".into() }).await.unwrap();
    let again = client.delete(DeleteNamespaceRequest { name: "one".into() }).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    let bad =
        CreateNamespaceRequest { namespace: Some(Namespace { name: "a..b".into(), ..Default::default() }) };
    assert_eq!(client.create(bad).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        client.create(CreateNamespaceRequest::default()).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    server.stop().await;
}

fn container(id: &str) -> Container {
    let any = |url: &str, json: &str| Any { type_url: url.into(), value: json.as_bytes().to_vec() };
    Container {
        id: id.into(),
        image: "localhost/a:1".into(),
        runtime: Some(Runtime { name: "io.containerd.runc.v2".into(), options: None }),
        spec: Some(any(
            "types.containerd.io/opencontainers/runtime-spec/1/Spec",
            "{ \"n\": 9007199254740993 }",
        )),
        labels: labels(&[("k", "v")]),
        extensions: [("x".to_owned(), any("a.B", "{}"))].into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_kept_byte_for_byte_and_told_of() {
    let server = Server::whole().await;
    let channel = server.channel().await;
    let mut events =
        EventsClient::new(channel.clone()).subscribe(SubscribeRequest::default()).await.unwrap().into_inner();
    let mut client = ContainersClient::new(channel);
    let create = |id: &str| CreateContainerRequest { container: Some(container(id)) };
    let created = client.create(request(create("c1"))).await.unwrap().into_inner().container.unwrap();
    assert!(created.created_at.is_some());
    let wanted =
        Container { created_at: created.created_at, updated_at: created.updated_at, ..container("c1") };
    assert_eq!(created, wanted);
    let get = |id: &str| GetContainerRequest { id: id.into() };
    assert_eq!(client.get(request(get("c1"))).await.unwrap().into_inner().container, Some(wanted));
    assert_eq!(client.create(request(create("c1"))).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(client.get(in_namespace("other", get("c1"))).await.unwrap_err().code(), Code::NotFound);

    let image = Container { id: "c1".into(), image: "localhost/b:1".into(), ..Default::default() };
    let update = UpdateContainerRequest { container: Some(image), update_mask: mask(&["image"]) };
    let updated = client.update(request(update)).await.unwrap().into_inner().container.unwrap();
    assert_eq!((updated.image.as_str(), updated.labels), ("localhost/b:1", labels(&[("k", "v")])));
    client.delete(request(DeleteContainerRequest { id: "c1".into() })).await.unwrap();
    for topic in ["/containers/create", "/containers/update", "/containers/delete"] {
        let event = loop {
            let event = events.message().await.unwrap().unwrap();
            if event.topic.starts_with("/containers/") {
                break event;
            }
        };
        assert_eq!((event.topic.as_str(), event.namespace.as_str()), (topic, "test"));
        let name = topic.rsplit('/').next().unwrap();
        assert!(
            event.event.unwrap().type_url.eq_ignore_ascii_case(&format!("containerd.events.Container{name}"))
        );
    }
    assert_eq!(
        client.create(request(CreateContainerRequest::default())).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_listed_at_once_and_one_by_one() {
    let server = Server::whole().await;
    let mut client = ContainersClient::new(server.channel().await);
    for number in 0..205 {
        let create = CreateContainerRequest { container: Some(container(&format!("c{number:03}"))) };
        client.create(request(create)).await.unwrap();
    }
    let list = |filter: &str| request(ListContainersRequest { filters: vec![filter.into()] });
    let all = client.list(list("")).await.unwrap().into_inner().containers;
    assert_eq!(all.len(), 205);
    assert!(all.is_sorted_by(|a, b| a.id < b.id));
    let mut stream = client.list_stream(list("id~=c00[0-4]")).await.unwrap().into_inner();
    let mut ids = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        ids.push(message.container.unwrap().id);
    }
    assert_eq!(ids, ["c000", "c001", "c002", "c003", "c004"]);
    assert_eq!(client.list(list("==")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.list_stream(list("==")).await.unwrap_err().code(), Code::InvalidArgument);
    let other = in_namespace("other", ListContainersRequest::default());
    assert!(client.list(other).await.unwrap().into_inner().containers.is_empty());
    server.stop().await;
}

fn image(name: &str, digit: char) -> Image {
    let target = Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".into(),
        digest: format!("sha256:{}", digit.to_string().repeat(64)),
        size: 7,
        annotations: labels(&[("x", "y")]),
    };
    Image { name: name.into(), target: Some(target), labels: labels(&[("k", "v")]), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_kept_changed_and_deleted_if_they_are_what_was_meant() {
    let server = Server::whole().await;
    let mut client = ImagesClient::new(server.channel().await);
    let create = |image| request(CreateImageRequest { image, source_date_epoch: None });
    let created =
        client.create(create(Some(image("localhost/a:1", 'a')))).await.unwrap().into_inner().image.unwrap();
    let wanted = Image {
        created_at: created.created_at,
        updated_at: created.updated_at,
        ..image("localhost/a:1", 'a')
    };
    assert_eq!(created, wanted);
    assert_eq!(client.create(create(Some(wanted))).await.unwrap_err().code(), Code::AlreadyExists);
    let bad = Image { target: None, ..image("localhost/b:1", 'a') };
    assert_eq!(client.create(create(Some(bad))).await.unwrap_err().code(), Code::InvalidArgument);

    // A client that changes labels need not say what the image names.
    let change = Image { name: "localhost/a:1".into(), labels: labels(&[("k", "w")]), ..Default::default() };
    let update =
        UpdateImageRequest { image: Some(change), update_mask: mask(&["labels.k"]), source_date_epoch: None };
    let updated = client.update(request(update)).await.unwrap().into_inner().image.unwrap();
    assert_eq!((updated.labels, updated.target), (labels(&[("k", "w")]), created.target));

    let list = ListImagesRequest { filters: vec!["name~=localhost/".into()] };
    assert_eq!(client.list(request(list)).await.unwrap().into_inner().images.len(), 1);
    let delete = |target| DeleteImageRequest { name: "localhost/a:1".into(), sync: true, target };
    let other = client.delete(request(delete(image("x", 'b').target))).await.unwrap_err();
    assert_eq!(other.code(), Code::NotFound);
    client.delete(request(delete(image("x", 'a').target))).await.unwrap();
    let gone = client.get(request(GetImageRequest { name: "localhost/a:1".into() })).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_hold_resources() {
    let server = Server::whole().await;
    let mut client = LeasesClient::new(server.channel().await);
    let create = |id: &str| CreateRequest { id: id.into(), labels: labels(&[("a", "b")]) };
    let lease = client.create(request(create("l/1"))).await.unwrap().into_inner().lease.unwrap();
    assert_eq!((lease.id.as_str(), lease.labels), ("l/1", labels(&[("a", "b")])));
    assert_eq!(client.create(request(create("l/1"))).await.unwrap_err().code(), Code::AlreadyExists);
    let random = client.create(request(create(""))).await.unwrap().into_inner().lease.unwrap();
    assert!(!random.id.is_empty());
    assert_eq!(client.list(request(ListRequest::default())).await.unwrap().into_inner().leases.len(), 2);

    let resource = |kind: &str, id: &str| Some(Resource { r#type: kind.into(), id: id.into() });
    let add = |resource| AddResourceRequest { id: "l/1".into(), resource };
    client.add_resource(request(add(resource("snapshots/memory", "key")))).await.unwrap();
    assert_eq!(
        client.add_resource(request(add(resource("cars", "1")))).await.unwrap_err().code(),
        Code::Unimplemented
    );
    assert_eq!(client.add_resource(request(add(None))).await.unwrap_err().code(), Code::InvalidArgument);
    let held = ListResourcesRequest { id: "l/1".into() };
    let resources = client.list_resources(request(held.clone())).await.unwrap().into_inner().resources;
    assert_eq!(resources, resource("snapshots/memory", "key").into_iter().collect::<Vec<_>>());
    let drop = DeleteResourceRequest { id: "l/1".into(), resource: resource("snapshots/memory", "key") };
    client.delete_resource(request(drop)).await.unwrap();
    assert!(client.list_resources(request(held)).await.unwrap().into_inner().resources.is_empty());
    let delete = DeleteRequest { id: "l/1".into(), sync: true };
    client.delete(request(delete.clone())).await.unwrap();
    assert_eq!(client.delete(request(delete)).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_describes_itself() {
    let server = Server::whole().await;
    let mut client = IntrospectionClient::new(server.channel().await);
    let identity = client.server(()).await.unwrap().into_inner();
    assert_eq!((identity.uuid.len(), identity.pid), (36, u64::from(std::process::id())));
    let plugins = |filter: &str| PluginsRequest { filters: vec![filter.into()] };
    assert_eq!(client.plugins(plugins("")).await.unwrap().into_inner().plugins.len(), 3);
    let filter = "type==io.containerd.snapshotter.v1, id==memory";
    let found = client.plugins(plugins(filter)).await.unwrap().into_inner().plugins;
    assert_eq!((found.len(), found[0].capabilities.as_slice()), (1, ["rebase".to_owned()].as_slice()));
    assert_eq!(client.plugins(plugins("==")).await.unwrap_err().code(), Code::InvalidArgument);

    let info = |id: &str, options| PluginInfoRequest {
        r#type: "io.containerd.snapshotter.v1".into(),
        id: id.into(),
        options,
    };
    let told = client.plugin_info(info("memory", None)).await.unwrap().into_inner();
    assert_eq!(told.plugin.unwrap().id, "memory");
    for (request, code) in [
        (info("absent", None), Code::NotFound),
        (info("zfs", None), Code::FailedPrecondition),
        (info("memory", Some(Any::default())), Code::Unimplemented),
    ] {
        assert_eq!(client.plugin_info(request).await.unwrap_err().code(), code);
    }
    server.stop().await;
}
