//! Rows of the records on the wire, as Debian's containerd answers them too (`CORTEN_TEST_PEER=containerd`).

use std::collections::BTreeMap;

use corten_api::{
    containerd::{
        events::NamespaceUpdate,
        services::{
            containers::v1::{
                Container, CreateContainerRequest, GetContainerRequest, UpdateContainerRequest,
                container::Runtime, containers_client::ContainersClient,
            },
            events::v1::{SubscribeRequest, events_client::EventsClient},
            images::v1::{
                CreateImageRequest, GetImageRequest, Image, UpdateImageRequest, images_client::ImagesClient,
            },
            leases::v1::{
                AddResourceRequest, CreateRequest, DeleteResourceRequest, ListResourcesRequest, Resource,
                leases_client::LeasesClient,
            },
            namespaces::v1::{
                CreateNamespaceRequest, DeleteNamespaceRequest, GetNamespaceRequest, Namespace,
                UpdateNamespaceRequest, namespaces_client::NamespacesClient,
            },
        },
        types::{Descriptor, Envelope},
    },
    convert::{any_from_wire, message_of},
};
use corten_tests::{Daemon, root_or_skip};
use prost_types::{Any, FieldMask};
use tonic::Code;

use crate::wire::Client;

type Labels = BTreeMap<String, String>;

fn labels<const N: usize>(entries: [(&str, &str); N]) -> Labels {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() })
}

fn any(text: &str) -> Any {
    Any { type_url: "test".to_owned(), value: text.as_bytes().to_vec() }
}

fn is_containerd() -> bool {
    std::env::var("CORTEN_TEST_PEER").is_ok_and(|peer| peer == "containerd")
}

async fn next_update(events: &mut tonic::Streaming<Envelope>) -> NamespaceUpdate {
    let event = events.message().await.unwrap().unwrap().event.unwrap();
    message_of(&any_from_wire(event)).unwrap()
}

/// `None` where the test cannot run.
fn started() -> Option<(Daemon, Client)> {
    if !root_or_skip() {
        return None;
    }
    let daemon = Daemon::start().unwrap();
    let client = Client::of(&daemon);
    Some((daemon, client))
}

fn container() -> Container {
    Container {
        id: "one".to_owned(),
        labels: labels([("a", "1"), ("b", "2")]),
        image: "localhost/one:1".to_owned(),
        runtime: Some(Runtime { name: "io.containerd.runc.v2".to_owned(), options: None }),
        spec: Some(any("spec")),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "one".to_owned(),
        extensions: [("x".to_owned(), any("1")), ("y".to_owned(), any("2"))].into(),
        ..Container::default()
    }
}

#[test]
fn containers_are_updated_by_path_or_as_a_whole_and_extensions_are_merged() {
    let Some((daemon, client)) = started() else { return };
    client.runtime.block_on(async {
        let mut containers = ContainersClient::new(client.connection.channel());
        let create = CreateContainerRequest { container: Some(container()) };
        containers.create(client.request(create)).await.unwrap();
        let update = |container: Container, paths: &[&str]| {
            let update = UpdateContainerRequest { container: Some(container), update_mask: mask(paths) };
            let mut containers = containers.clone();
            let request = client.request(update);
            async move {
                let answer = containers.update(request).await;
                answer.map(|answer| answer.into_inner().container.unwrap()).map_err(|status| status.code())
            }
        };
        let get = async || {
            let get = client.request(GetContainerRequest { id: "one".to_owned() });
            containers.clone().get(get).await.unwrap().into_inner().container.unwrap()
        };

        // C06: paths are run together, and only what they name changes.
        let changed = Container {
            labels: labels([("a", "9"), ("c", "3")]),
            snapshot_key: "other".to_owned(),
            image: "localhost/two:1".to_owned(),
            ..container()
        };
        let told = update(changed.clone(), &["labels.a", "snapshotkey"]).await.unwrap();
        assert_eq!(told.labels, labels([("a", "9"), ("b", "2")]));
        assert_eq!((told.snapshot_key.as_str(), told.image.as_str()), ("other", "localhost/one:1"));
        for path in ["snapshot_key", "runtime", "snapshotter", "id", "created_at"] {
            assert_eq!(update(changed.clone(), &[path]).await, Err(Code::InvalidArgument), "{path}");
        }
        // A label that is not given, or is given without a value, is not stored any more.
        update(Container { labels: Labels::new(), ..container() }, &["labels.a"]).await.unwrap();
        assert_eq!(get().await.labels, labels([("b", "2")]));

        // C08: what is told is the new map; what is stored keeps the keys that it lacks.
        let fewer = Container { extensions: [("x".to_owned(), any("9"))].into(), ..container() };
        let told = update(fewer, &["extensions"]).await.unwrap();
        assert_eq!(told.extensions.len(), 1);
        let stored = get().await.extensions;
        assert_eq!((&stored["x"], &stored["y"]), (&any("9"), &any("2")));

        // C07: without a mask everything that may change is replaced; what may not is refused.
        let whole = Container { sandbox: "sandbox".to_owned(), ..changed.clone() };
        update(whole, &[]).await.unwrap();
        let stored = get().await;
        assert_eq!((stored.labels, stored.image.as_str()), (changed.labels.clone(), "localhost/two:1"));
        assert_eq!(stored.sandbox, "", "it never changes");
        let renamed = Runtime { name: "other".to_owned(), options: None };
        for wrong in [
            Container { runtime: Some(renamed), ..changed.clone() },
            Container { snapshotter: "native".to_owned(), ..changed.clone() },
            Container { id: String::new(), ..changed.clone() },
        ] {
            assert_eq!(update(wrong, &[]).await, Err(Code::InvalidArgument));
        }
        assert_eq!(update(Container { id: "absent".to_owned(), ..changed }, &[]).await, Err(Code::NotFound));

        // X11: 4096 bytes of key and value are as many as there may be.
        for (length, expected) in [(4095, Ok(())), (4096, Err(Code::InvalidArgument))] {
            let long = Container { labels: labels([("k", "v".repeat(length).as_str())]), ..container() };
            assert_eq!(update(long, &["labels"]).await.map(drop), expected, "{length}");
        }
    });
    daemon.finish().unwrap();
}

fn image(digit: &str) -> Image {
    let target = Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        digest: format!("sha256:{}", digit.repeat(64)),
        size: 7,
        annotations: labels([("n", digit)]),
    };
    Image {
        name: "localhost/one:1".to_owned(),
        labels: labels([("a", digit)]),
        target: Some(target),
        ..Image::default()
    }
}

#[test]
fn images_are_updated_by_path_or_as_a_whole() {
    let Some((daemon, client)) = started() else { return };
    client.runtime.block_on(async {
        let mut images = ImagesClient::new(client.connection.channel());
        let create = CreateImageRequest { image: Some(image("1")), ..CreateImageRequest::default() };
        let created = images.create(client.request(create)).await.unwrap().into_inner().image.unwrap();
        let update = |image: Image, paths: &[&str]| {
            let update = UpdateImageRequest {
                image: Some(image),
                update_mask: mask(paths),
                ..UpdateImageRequest::default()
            };
            let (mut images, request) =
                (ImagesClient::new(client.connection.channel()), client.request(update));
            async move {
                let answer = images.update(request).await;
                answer.map(|answer| answer.into_inner().image.unwrap()).map_err(|status| status.code())
            }
        };
        let told = update(image("2"), &["labels.a"]).await.unwrap();
        assert_eq!((told.labels, told.target), (labels([("a", "2")]), image("1").target));
        let told = update(image("2"), &["target"]).await.unwrap();
        assert_eq!(told.target.unwrap().digest, image("2").target.unwrap().digest);
        for path in ["name", "target.digest", "created_at"] {
            assert_eq!(update(image("2"), &[path]).await, Err(Code::InvalidArgument), "{path}");
        }
        update(image("3"), &[]).await.unwrap();
        let get = GetImageRequest { name: "localhost/one:1".to_owned() };
        let stored = images.get(client.request(get)).await.unwrap().into_inner().image.unwrap();
        assert_eq!((stored.labels, stored.target), (image("3").labels, image("3").target));
        assert_eq!(stored.created_at, created.created_at, "it is the time of its creation");
        let absent = Image { name: "absent".to_owned(), ..image("1") };
        assert_eq!(update(absent, &[]).await, Err(Code::NotFound));
        for wrong in [
            Image { target: Some(Descriptor { size: 0, ..image("1").target.unwrap() }), ..image("1") },
            Image {
                target: Some(Descriptor { media_type: String::new(), ..image("1").target.unwrap() }),
                ..image("1")
            },
        ] {
            assert_eq!(update(wrong, &[]).await, Err(Code::InvalidArgument));
        }
        let delete = corten_api::containerd::services::images::v1::DeleteImageRequest {
            name: "localhost/one:1".to_owned(),
            sync: true,
            ..Default::default()
        };
        images.delete(client.request(delete.clone())).await.unwrap();
        assert_eq!(images.delete(client.request(delete)).await.unwrap_err().code(), Code::NotFound);
    });
    daemon.finish().unwrap();
}

#[test]
fn leases_take_content_ingests_and_snapshots_and_nothing_that_is_malformed() {
    let Some((daemon, client)) = started() else { return };
    client.runtime.block_on(async {
        let mut leases = LeasesClient::new(client.connection.channel());
        let create = CreateRequest { id: "any/id".to_owned(), ..CreateRequest::default() };
        leases.create(client.request(create)).await.unwrap();
        let resource = |kind: &str, id: &str| Some(Resource { r#type: kind.to_owned(), id: id.to_owned() });
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = [
            resource("content", &digest),
            resource("ingests", "ref"),
            resource("snapshots/overlayfs", "key"),
        ];
        for resource in good.iter().rev() {
            let add = AddResourceRequest { id: "any/id".to_owned(), resource: resource.clone() };
            leases.add_resource(client.request(add.clone())).await.unwrap();
            leases.add_resource(client.request(add)).await.unwrap();
        }
        let list = || client.request(ListResourcesRequest { id: "any/id".to_owned() });
        let listed = leases.list_resources(list()).await.unwrap().into_inner().resources;
        assert_eq!(listed, good.iter().flatten().cloned().collect::<Vec<_>>(), "L06");
        for (wrong, code) in [
            (resource("content", "no digest"), Code::InvalidArgument),
            (resource("snapshots", "key"), Code::InvalidArgument),
            (resource("snapshots/a/b", "key"), Code::InvalidArgument),
            (resource("snapshotter/overlayfs", "key"), Code::Unimplemented),
            (resource("containers", "id"), Code::Unimplemented),
            (resource("mounts", "name"), Code::Unimplemented),
        ] {
            let add = AddResourceRequest { id: "any/id".to_owned(), resource: wrong.clone() };
            let refused = leases.add_resource(client.request(add)).await.unwrap_err();
            assert_eq!(refused.code(), code, "{wrong:?}");
        }
        let absent = AddResourceRequest { id: "absent".to_owned(), resource: good[0].clone() };
        assert_eq!(leases.add_resource(client.request(absent)).await.unwrap_err().code(), Code::NotFound);
        for _ in 0..2 {
            let drop = DeleteResourceRequest { id: "any/id".to_owned(), resource: good[0].clone() };
            leases.delete_resource(client.request(drop)).await.unwrap();
        }
        assert_eq!(leases.list_resources(list()).await.unwrap().into_inner().resources.len(), 2);
    });
    daemon.finish().unwrap();
}

#[test]
fn namespaces_tell_what_was_given_and_what_is_in_them() {
    let Some((daemon, client)) = started() else { return };
    client.runtime.block_on(async {
        let channel = client.connection.channel();
        let mut namespaces = NamespacesClient::new(channel.clone());
        let name = format!("{}n", client.namespace);
        let get = || GetNamespaceRequest { name: name.clone() };
        let absent = namespaces.get(client.request(get())).await.unwrap().into_inner().namespace.unwrap();
        assert!(absent.labels.is_empty(), "NS1");
        let with = |labels| Some(Namespace { name: name.clone(), labels });
        let create = CreateNamespaceRequest { namespace: with(labels([("a", "1"), ("b", "2")])) };
        namespaces.create(client.request(create.clone())).await.unwrap();
        assert_eq!(namespaces.create(client.request(create)).await.unwrap_err().code(), Code::AlreadyExists);

        // NS4. The event has the labels of the call.
        let filter = format!("topic==\"/namespaces/update\",namespace=={name}");
        let subscribe = SubscribeRequest { filters: vec![filter] };
        let mut events = if is_containerd() {
            // It answers a subscriber only with the first event.
            None
        } else {
            Some(EventsClient::new(channel.clone()).subscribe(subscribe).await.unwrap().into_inner())
        };
        let mut update = async |given: Labels, paths: &[&str]| {
            let update = UpdateNamespaceRequest { namespace: with(given), update_mask: mask(paths) };
            let answer = namespaces.update(client.request(update)).await?;
            // Nothing, or a namespace of which nothing is said: clients in Go cannot tell them apart.
            Ok::<_, tonic::Status>(answer.into_inner().namespace.unwrap_or_default())
        };
        for path in ["labels", "name", "x"] {
            assert_eq!(
                update(labels([("a", "9")]), &[path]).await.unwrap_err().code(),
                Code::InvalidArgument
            );
        }
        let given = labels([("a", "9"), ("b", ""), ("c", "3")]);
        let answer = update(given.clone(), &["labels.a", "labels.b"]).await.unwrap();
        assert_eq!(answer, Namespace::default());
        if let Some(events) = &mut events {
            let event = next_update(events).await;
            assert_eq!((event.name, event.labels), (name.clone(), given));
        }
        update(labels([("only", "4")]), &[]).await.unwrap();
        if let Some(events) = &mut events {
            assert_eq!(next_update(events).await.labels, labels([("only", "4")]));
        }
        let mut namespaces = NamespacesClient::new(channel.clone());
        let stored = namespaces.get(client.request(get())).await.unwrap().into_inner().namespace.unwrap();
        assert_eq!(stored.labels, labels([("only", "4")]));

        // NS5.
        let mut containers = ContainersClient::new(channel.clone());
        let inside = |message| {
            let mut request = tonic::Request::new(message);
            request.metadata_mut().insert("containerd-namespace", name.parse().unwrap());
            request
        };
        let create = CreateContainerRequest { container: Some(container()) };
        containers.create(inside(create)).await.unwrap();
        let delete = || DeleteNamespaceRequest { name: name.clone() };
        let refused = namespaces.delete(client.request(delete())).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let message = format!("namespace {name:?} must be empty, but it still has containers");
        assert!(refused.message().contains(&message), "{}", refused.message());
        let mut request =
            tonic::Request::new(corten_api::containerd::services::containers::v1::DeleteContainerRequest {
                id: "one".to_owned(),
            });
        request.metadata_mut().insert("containerd-namespace", name.parse().unwrap());
        containers.delete(request).await.unwrap();
        namespaces.delete(client.request(delete())).await.unwrap();
        assert_eq!(namespaces.delete(client.request(delete())).await.unwrap_err().code(), Code::NotFound);
    });
    daemon.finish().unwrap();
}
