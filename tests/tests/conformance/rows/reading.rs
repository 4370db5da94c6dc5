//! Looking at blobs and ingests, reading, deleting (T01-T07, T21, T24).

use std::time::Duration;

use corten_api::containerd::services::{
    content::v1::{
        DeleteContentRequest, Info, ListContentRequest, ListStatusesRequest, StatusRequest, UpdateRequest,
        WriteAction,
    },
    events::v1::SubscribeRequest,
};
use futures::future::{Either, select};
use prost_types::FieldMask;
use tonic::Code;

use super::client::{Client, Writing, message, sha256, within};

pub(super) async fn t01_info_is_by_digest_and_namespace(client: Client) {
    let digest = client.put(b"blob").await;
    let info = client.info(&digest).await.unwrap();
    assert_eq!((info.digest.as_str(), info.size), (digest.as_str(), 4));
    assert!(info.created_at.is_some() && info.updated_at.is_some());
    for malformed in ["", "sha256:1", "blob", "sha256:zz"] {
        assert_eq!(client.info(malformed).await.unwrap_err().code(), Code::InvalidArgument, "{malformed:?}");
    }
    assert_eq!(client.info(&sha256(b"absent")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.elsewhere().info(&digest).await.unwrap_err().code(), Code::NotFound);
}

pub(super) async fn t02_labels_are_changed_by_mask(client: Client) {
    let digest = client.put(b"labelled").await;
    let update = async |digest: &str, labels: &[(&str, &str)], paths: &[&str]| {
        let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let info = Info { digest: digest.to_owned(), labels, ..Info::default() };
        let mask = FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() };
        let request = client.request(UpdateRequest { info: Some(info), update_mask: Some(mask) });
        client.content().update(request).await.map(|answer| answer.into_inner().info.unwrap())
    };
    let before = client.info(&digest).await.unwrap();
    let both = update(&digest, &[("a", "1"), ("x.y/z", "2")], &[]).await.unwrap();
    assert_eq!(both.labels.len(), 2, "an empty mask replaces all labels");
    assert!(
        both.updated_at.map(|at| (at.seconds, at.nanos))
            >= before.updated_at.map(|at| (at.seconds, at.nanos))
    );
    let one = update(&digest, &[("a", "ignored"), ("x.y/z", "3")], &["labels.x.y/z"]).await.unwrap();
    assert_eq!((one.labels["a"].as_str(), one.labels["x.y/z"].as_str()), ("1", "3"));
    let all = update(&digest, &[("b", "4")], &["labels"]).await.unwrap();
    assert_eq!(all.labels.into_iter().collect::<Vec<_>>(), [("b".to_owned(), "4".to_owned())]);
    assert_eq!(update(&digest, &[], &["size"]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(update(&sha256(b"absent"), &[], &[]).await.unwrap_err().code(), Code::NotFound);
}

pub(super) async fn t03_lists_come_a_hundred_at_a_time(client: Client) {
    let pages = async |filters: &[String]| {
        let request = client.request(ListContentRequest { filters: filters.to_vec() });
        let mut answers = client.content().list(request).await.unwrap().into_inner();
        let mut pages: Vec<Vec<String>> = Vec::new();
        while let Some(page) = answers.message().await.unwrap() {
            pages.push(page.info.into_iter().map(|info| info.digest).collect());
        }
        pages
    };
    assert!(pages(&[]).await.is_empty(), "no message at all");
    let mut digests = Vec::new();
    for number in 0..101_u32 {
        digests.push(client.put(&number.to_le_bytes()).await);
    }
    digests.sort();
    let all = pages(&[]).await;
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [100, 1]);
    assert_eq!(all.concat(), digests, "in the order of digests");
    assert_eq!(pages(&[format!("digest=={}", digests[7])]).await.concat(), digests[7..8]);
    assert!(pages(&["size==4".to_owned()]).await.concat().is_empty(), "no filter sees the size");
    assert!(pages(&["labels.none".to_owned()]).await.concat().is_empty());
}

pub(super) async fn t04_a_deleted_blob_is_gone_from_its_namespace(client: Client) {
    let digest = client.put(b"blob").await;
    let other = client.elsewhere();
    other.put(b"blob").await;
    let delete = async || {
        let request = client.request(DeleteContentRequest { digest: digest.clone() });
        client.content().delete(request).await
    };
    delete().await.unwrap();
    assert_eq!(delete().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.info(&digest).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(other.read(&digest, 0, 0).await.unwrap(), [(0, b"blob".to_vec())]);
}

pub(super) async fn t05_reads_come_in_chunks_that_count_from_their_begin(client: Client) {
    let bytes: Vec<u8> = (0..5_u32 << 17).flat_map(u32::to_le_bytes).collect();
    let (digest, size) = (client.put(&bytes).await, i64::try_from(bytes.len()).unwrap());
    let (mib, end) = (1 << 20, bytes.len());
    for (offset, length, wanted) in [
        (0, 0, 0..end),
        (-5, -1, 0..end),
        (10, 0, 10..end),
        (10, 5, 10..15),
        (size - 3, size, end - 3..end),
        (7, mib + 1, 7..7 + (1 << 20) + 1),
        (size, 0, end..end),
        (size, 10, end..end),
    ] {
        let mut read = Vec::new();
        for (at, data) in client.read(&digest, offset, length).await.unwrap() {
            assert_eq!(usize::try_from(at).unwrap(), read.len(), "it counts from the begin of the read");
            assert!(!data.is_empty() && data.len() <= 1 << 20);
            read.extend(data);
        }
        assert!(read == bytes[wanted], "offset {offset}, size {length}");
    }
    assert_eq!(client.read(&digest, size + 1, 0).await.unwrap_err().code(), Code::OutOfRange);
    let empty = client.put(b"").await;
    assert!(client.read(&empty, 0, 0).await.unwrap().is_empty(), "an empty blob sends no message");
}

pub(super) async fn t06_the_state_of_an_ingest_is_told_without_its_digest(client: Client) {
    assert_eq!(client.offset("r").await.unwrap_err().code(), Code::NotFound);
    let mut first = message(WriteAction::Write, "r", 0, b"abc");
    (first.total, first.expected) = (10, sha256(b"abcdefghij"));
    let (_writing, _) = Writing::begin(&client, first).await.unwrap();
    let request = client.request(StatusRequest { r#ref: "r".to_owned() });
    let status = client.content().status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.r#ref.as_str(), status.offset, status.total), ("r", 3, 10));
    assert_eq!(status.expected, "");
    assert!(status.started_at.is_some() && status.updated_at.is_some());
    assert_eq!(client.elsewhere().offset("r").await.unwrap_err().code(), Code::NotFound);
}

pub(super) async fn t07_ingests_are_listed_by_ref(client: Client) {
    let mut open = Vec::new();
    for reference in ["layer-1", "layer-2", "config"] {
        open.push(Writing::begin(&client, message(WriteAction::Write, reference, 0, b"x")).await.unwrap());
    }
    let listed = async |filters: &[&str]| {
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        let answer = client.content().list_statuses(client.request(ListStatusesRequest { filters })).await;
        let mut refs: Vec<_> =
            answer.unwrap().into_inner().statuses.into_iter().map(|status| status.r#ref).collect();
        refs.sort();
        refs
    };
    assert_eq!(listed(&[]).await, ["config", "layer-1", "layer-2"]);
    assert_eq!(listed(&["ref==config"]).await, ["config"]);
    assert_eq!(listed(&["ref~=^layer", "ref==config"]).await.len(), 3, "one of them is enough");
    assert!(listed(&["offset==1"]).await.is_empty());
}

/// A subscription is not answered before its first event: blobs are made until one is seen.
pub(super) async fn t21_a_commit_is_published(client: Client) {
    let filter = format!("namespace=={},topic==\"/content/create\"", client.namespace);
    let mut events = client.events();
    let subscribe = client.request(SubscribeRequest { filters: vec![filter] });
    let first = async {
        let mut events = events.subscribe(subscribe).await.unwrap().into_inner();
        events.message().await.unwrap().unwrap()
    };
    let making = async {
        for number in 0_u32.. {
            client.put(&number.to_le_bytes()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (first, making) = (std::pin::pin!(first), std::pin::pin!(making));
    let Either::Left((event, _)) = within(select(first, making)).await else {
        unreachable!("blobs are made for ever")
    };
    assert_eq!(
        (event.namespace.as_str(), event.topic.as_str()),
        (client.namespace.as_str(), "/content/create")
    );
    let any = event.event.unwrap();
    assert_eq!(any.type_url, "containerd.events.ContentCreate");
}

pub(super) async fn t24_parts_are_read_in_any_order(client: Client) {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = client.put(&bytes).await;
    let info = client.info(&digest).await.unwrap();
    for offset in [399_990, 0, 12_345, 200_000, 1] {
        let read = client.read(&digest, offset, 64).await.unwrap();
        let start = usize::try_from(offset).unwrap();
        let end = (start + 64).min(usize::try_from(info.size).unwrap());
        assert_eq!(read, [(0, bytes[start..end].to_vec())], "64 bytes from {offset}");
    }
}
