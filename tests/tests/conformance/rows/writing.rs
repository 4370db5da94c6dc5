//! Writing blobs (T08-T20, T23).

use std::os::unix::fs::PermissionsExt;

use corten_api::containerd::services::content::v1::{
    AbortRequest,
    WriteAction::{Commit, Stat, Write},
    WriteContentRequest,
};
use corten_content_store::Hasher;
use corten_types::{Algorithm, Labels};
use tonic::Code;

use super::client::{Client, Writing, message, sha256};

fn expecting(request: WriteContentRequest, bytes: &[u8]) -> WriteContentRequest {
    WriteContentRequest { expected: sha256(bytes), ..request }
}

pub(super) async fn t08_an_abort_while_the_ref_is_held_fails_the_commit(client: Client) {
    let abort = async || client.content().abort(client.request(AbortRequest { r#ref: "r".to_owned() })).await;
    assert_eq!(abort().await.unwrap_err().code(), Code::NotFound);
    let (mut writing, _) = Writing::begin(&client, message(Write, "r", 0, b"abc")).await.unwrap();
    abort().await.unwrap();
    assert_eq!(client.offset("r").await.unwrap_err().code(), Code::NotFound);
    assert!(writing.send(message(Commit, "r", 3, b"")).await.is_err());
    assert_eq!(client.info(&sha256(b"abc")).await.unwrap_err().code(), Code::NotFound);
    writing.end().await;
    let (_again, stat) = Writing::begin_when_free(&client, message(Stat, "r", 0, b"")).await;
    assert_eq!(stat.offset, 0);
}

pub(super) async fn t09_the_first_message_names_a_ref_and_holds_it(client: Client) {
    let refused = Writing::begin(&client, message(Stat, "", 0, b"")).await.map(drop);
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let (first, _) = Writing::begin(&client, message(Write, "r", 0, b"abc")).await.unwrap();
    let refused = Writing::begin(&client, message(Stat, "r", 0, b"")).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "clients come back for this one alone");
    assert!(refused.message().contains("locked"), "{refused}");
    Writing::begin(&client.elsewhere(), message(Stat, "r", 0, b""))
        .await
        .expect("refs of namespaces are apart");
    first.end().await;
    let (_again, stat) = Writing::begin_when_free(&client, message(Stat, "r", 0, b"")).await;
    assert_eq!(stat.offset, 3);
}

pub(super) async fn t10_a_blob_that_exists_is_refused_and_leased(client: Client) {
    let digest = client.put(b"blob").await;
    let leased = client.leased("l").await;
    let refused = Writing::begin(&leased, expecting(message(Stat, "r", 0, b""), b"blob")).await.map(drop);
    assert_eq!(refused.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(leased.leased_ids().await, [digest]);
}

pub(super) async fn t11_another_namespace_needs_no_bytes(client: Client) {
    let digest = client.put(b"shared").await;
    let other = client.elsewhere();
    let first = WriteContentRequest { total: 6, ..expecting(message(Stat, "r", 0, b""), b"shared") };
    let (mut writing, stat) = Writing::begin(&other, first).await.unwrap();
    assert_eq!((stat.offset, stat.total, stat.digest.as_str()), (6, 6, digest.as_str()));
    let commit = WriteContentRequest { total: 6, ..expecting(message(Commit, "r", 6, b""), b"shared") };
    assert_eq!(writing.send(commit).await.unwrap().digest, digest);
    assert_eq!(other.read(&digest, 0, 0).await.unwrap(), [(0, b"shared".to_vec())]);
    let third = other.elsewhere();
    let other_size = WriteContentRequest { total: 7, ..expecting(message(Stat, "r", 0, b""), b"shared") };
    let (_writing, stat) = Writing::begin(&third, other_size).await.unwrap();
    assert_eq!(stat.offset, 0, "of another size it is another blob");
}

pub(super) async fn t12_the_state_is_asked_for_in_the_stream(client: Client) {
    let first = WriteContentRequest { total: 10, ..message(Stat, "r", 0, b"") };
    let (mut writing, stat) = Writing::begin(&client, first).await.unwrap();
    assert_eq!((stat.action(), stat.offset, stat.total), (Stat, 0, 10));
    assert!(stat.started_at.is_some() && stat.updated_at.is_some());
    writing.send(message(Write, "r", 0, b"abc")).await.unwrap();
    let stat = writing.send(message(Stat, "r", 0, b"")).await.unwrap();
    assert_eq!((stat.offset, stat.total, stat.digest), (3, 10, sha256(b"abc")));
    writing.end().await;
    let (_writing, stat) = Writing::begin_when_free(&client, message(Stat, "r", 0, b"")).await;
    assert_eq!((stat.offset, stat.total), (3, 0), "the total of this stream, not the one that is stored");
}

pub(super) async fn t13_an_offset_is_the_end_or_begins_anew(client: Client) {
    let (mut writing, _) = Writing::begin(&client, message(Write, "r", 0, b"0123456789")).await.unwrap();
    assert_eq!(writing.send(message(Write, "r", 0, b"abc")).await.unwrap().offset, 3);
    assert_eq!(writing.send(message(Stat, "r", 0, b"")).await.unwrap().offset, 3, "looking changes nothing");
    assert_eq!(writing.send(message(Write, "r", 3, b"d")).await.unwrap().offset, 4);
    assert_eq!(writing.send(message(Write, "r", 3, b"x")).await.unwrap_err().code(), Code::OutOfRange);
    writing.end().await;
    let (mut writing, stat) = Writing::begin_when_free(&client, message(Stat, "r", 0, b"")).await;
    assert_eq!(stat.offset, 4);
    let committed = writing.send(message(Commit, "r", 0, b"all")).await.unwrap();
    assert_eq!((committed.offset, committed.digest), (3, sha256(b"all")), "a commit at 0 begins anew, too");
}

pub(super) async fn t14_an_answer_tells_the_digest_so_far(client: Client) {
    let first = WriteContentRequest { total: 6, ..message(Stat, "r", 0, b"") };
    let (mut writing, stat) = Writing::begin(&client, first).await.unwrap();
    let one = writing.send(message(Write, "r", 0, b"abc")).await.unwrap();
    assert_eq!((one.action(), one.offset, one.digest), (Write, 3, sha256(b"abc")));
    assert_eq!((one.started_at, one.total), (stat.started_at, 6), "what a message does not set stays");
    let two = writing.send(message(Write, "r", 3, b"def")).await.unwrap();
    assert_eq!((two.offset, two.digest), (6, sha256(b"abcdef")));
}

pub(super) async fn t15_an_expectation_may_come_later(client: Client) {
    client.put(b"known").await;
    let (mut writing, _) = Writing::begin(&client, message(Write, "r", 0, b"kno")).await.unwrap();
    let refused = writing.send(expecting(message(Write, "r", 3, b"wn"), b"known")).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(client.offset("r").await.unwrap_err().code(), Code::NotFound, "the ingest is given up");
}

pub(super) async fn t16_a_commit_must_fit(client: Client) {
    let long = Labels::from([("k".to_owned(), "v".repeat(4096))]);
    for (total, expected, labels, wanted) in [
        (4, String::new(), Labels::new(), Code::FailedPrecondition),
        (0, sha256(b"other"), Labels::new(), Code::FailedPrecondition),
        (0, String::new(), long, Code::InvalidArgument),
    ] {
        let (mut writing, _) = Writing::begin_when_free(&client, message(Write, "r", 0, b"abc")).await;
        let commit = WriteContentRequest { total, expected, labels, ..message(Commit, "r", 3, b"") };
        assert_eq!(writing.send(commit).await.unwrap_err().code(), wanted);
        assert_eq!(client.info(&sha256(b"abc")).await.unwrap_err().code(), Code::NotFound);
        writing.end().await;
    }
    let (mut writing, stat) = Writing::begin_when_free(&client, message(Stat, "r", 0, b"")).await;
    assert_eq!(stat.offset, 3, "the bytes are kept");
    let fitting = Labels::from([("k".to_owned(), "v".repeat(4095))]);
    let commit = WriteContentRequest { labels: fitting.clone(), total: 6, ..message(Commit, "r", 3, b"def") };
    assert_eq!(writing.send(commit).await.unwrap().offset, 6, "it may bring the last bytes");
    assert_eq!(client.info(&sha256(b"abcdef")).await.unwrap().labels, fitting);
}

pub(super) async fn t16_a_commit_of_what_exists_removes_the_ingest(client: Client) {
    let digest = client.put(b"blob").await;
    let leased = client.leased("l").await;
    let (mut writing, _) = Writing::begin(&leased, message(Write, "r", 0, b"blob")).await.unwrap();
    let refused = writing.send(message(Commit, "r", 4, b"")).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(client.offset("r").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(leased.leased_ids().await, [digest]);
}

pub(super) async fn t17_the_last_answer_comes_twice(client: Client) {
    let (mut writing, last) = Writing::begin(&client, message(Write, "r", 0, b"abc")).await.unwrap();
    writing.half_close();
    assert_eq!(writing.next().await.unwrap(), Some(last), "without a commit");
    assert_eq!(writing.next().await.unwrap(), None);
    let (mut writing, _) = Writing::begin_when_free(&client, message(Stat, "r", 0, b"")).await;
    let committed = writing.send(message(Commit, "r", 3, b"")).await.unwrap();
    assert_eq!(writing.next().await.unwrap(), Some(committed), "and with one");
    assert_eq!(writing.next().await.unwrap(), None);
}

pub(super) async fn t18_a_ref_is_gone_on_with(client: Client) {
    let bytes = vec![7; 3 << 20];
    let (writing, _) = Writing::begin(&client, message(Write, "r", 0, &bytes)).await.unwrap();
    drop(writing);
    let (mut writing, stat) = Writing::begin_when_free(&client, message(Stat, "r", 0, b"")).await;
    assert_eq!((stat.offset, stat.digest), (3 << 20, sha256(&bytes)), "it is hashed anew");
    let whole = [bytes.as_slice(), b"rest"].concat();
    let commit = expecting(message(Commit, "r", 3 << 20, b"rest"), &whole);
    assert_eq!(writing.send(commit).await.unwrap().digest, sha256(&whole));
}

pub(super) async fn t18_another_total_begins_anew(client: Client) {
    let sized = |total| WriteContentRequest { total, ..message(Stat, "r", 0, b"") };
    let (mut writing, _) = Writing::begin(&client, sized(10)).await.unwrap();
    writing.send(message(Write, "r", 0, b"abc")).await.unwrap();
    writing.end().await;
    let (writing, stat) = Writing::begin_when_free(&client, sized(10)).await;
    assert_eq!(stat.offset, 3);
    writing.end().await;
    let (_writing, stat) = Writing::begin_when_free(&client, sized(11)).await;
    assert_eq!(stat.offset, 0);
}

pub(super) async fn t20_the_expected_digest_chooses_the_hash(client: Client) {
    for (algorithm, bytes) in [(Algorithm::Sha384, b"one"), (Algorithm::Sha512, b"two")] {
        let digest = Hasher::digest_of(algorithm, bytes).to_string();
        let first =
            WriteContentRequest { expected: digest.clone(), ..message(Commit, "told first", 0, bytes) };
        let (_writing, answer) = Writing::begin(&client, first).await.unwrap();
        assert_eq!(answer.digest, digest);
        assert_eq!(client.info(&digest).await.unwrap().size, 3);
        assert_eq!(client.read(&digest, 0, 0).await.unwrap(), [(0, bytes.to_vec())]);
    }
    let (mut writing, _) = Writing::begin(&client, message(Write, "unsized", 0, b"abc")).await.unwrap();
    let answer =
        writing.send(WriteContentRequest { total: -1, ..message(Commit, "", 3, b"") }).await.unwrap();
    assert_eq!(answer.digest, sha256(b"abc"), "nothing was promised: SHA-256, and no check of the size");
}

pub(super) async fn t23_a_blob_is_a_file_that_nobody_writes(client: Client) {
    let digest = client.put(b"file").await;
    let store = client.root.join("io.containerd.content.v1.content");
    let path = store.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), b"file");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o222, 0, "T22: nobody writes");
    let (_writing, _) = Writing::begin(&client, message(Write, "half", 0, b"abc")).await.unwrap();
    let wanted = format!("{}/", client.namespace);
    let is_ours = |folder: &std::path::Path| {
        let reference = std::fs::read_to_string(folder.join("ref")).unwrap_or_default();
        reference.starts_with(&wanted) && reference.ends_with("/half")
    };
    let mut folders = store.join("ingest").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.find(|folder| is_ours(folder)).expect("the folder of the ingest");
    let reference = std::fs::read(folder.join("ref")).unwrap();
    let name = sha256(&reference);
    assert_eq!(folder.file_name().unwrap().to_str(), name.strip_prefix("sha256:"));
    assert_eq!(std::fs::read(folder.join("data")).unwrap(), b"abc");
    for file in ["startedat", "updatedat"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
}
