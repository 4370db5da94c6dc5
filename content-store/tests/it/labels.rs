//! A store that keeps labels: what a fault or a power cut leaves of them.

use std::path::Path;

use corten_content_store::{BlobReader, BlobWriter, CommitOptions, IngestOptions, Ingester, LocalStore};
use corten_disk::{
    Disk,
    testing::{Fault, Script, Unsynced},
};
use corten_filter::Filters;
use corten_types::{ErrorKind, Labels, Result, UpdateMask};

use crate::sha256;

/// In memory: the power cuts are played, and syncs of a disk would be most of the time.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn labels(value: &str) -> Labels {
    Labels::from([("step".to_owned(), value.to_owned())])
}

/// Deletes the blob alone, or as one of a list.
#[derive(Clone, Copy, Debug)]
enum Deletion {
    Alone,
    Together,
}

/// Commits, changes the labels, deletes and commits without labels; counts the steps that were acknowledged.
async fn scenario(root: &Path, disk: Disk, deletion: Deletion, done: &mut usize) -> Result<()> {
    let store = LocalStore::open_labelled(root, disk)?;
    let digest = sha256(b"blob");
    for (step, given) in [(1, labels("1")), (4, Labels::new())] {
        let mut ingest = store.ingest("k", IngestOptions::default()).await?;
        ingest.truncate().await?;
        ingest.write("blob".into()).await?;
        ingest.commit(CommitOptions { labels: given, ..CommitOptions::default() }).await?;
        *done = step;
        if step == 1 {
            store.update(&digest, &labels("2"), &UpdateMask::replace_all()).await?;
            *done = 2;
            match deletion {
                Deletion::Alone => store.delete(&digest).await?,
                Deletion::Together => {
                    store
                        .delete_all(std::slice::from_ref(&digest))
                        .await
                        .into_iter()
                        .collect::<Result<()>>()?;
                }
            }
            *done = 3;
        }
    }
    Ok(())
}

async fn check(root: &Path, done: usize, what: &str) {
    let store = LocalStore::open_labelled(root, Disk::new()).unwrap();
    let found = match store.info(&sha256(b"blob")).await {
        Ok(info) => Some(info.labels.get("step").cloned().unwrap_or_default()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error:?}");
            None
        }
    };
    // What was acknowledged, or what the step after it would make.
    let allowed: &[Option<&str>] = match done {
        0 => &[None, Some("1")],
        1 => &[Some("1"), Some("2")],
        2 => &[Some("2"), None],
        3 => &[None, Some("")],
        _ => &[Some("")],
    };
    assert!(allowed.contains(&found.as_deref()), "{what}: after step {done} there is {found:?}");
}

#[tokio::test]
async fn labels_are_those_of_a_step_whatever_fails_and_wherever_the_power_goes() {
    sweep(Deletion::Alone).await;
}

#[tokio::test]
async fn labels_of_what_is_deleted_together_are_those_of_a_step_too() {
    sweep(Deletion::Together).await;
}

async fn sweep(deletion: Deletion) {
    let root = scratch();
    let (script, mut done) = (Script::never_fails(root.path()), 0);
    scenario(root.path(), script.disk(), deletion, &mut done).await.unwrap();
    check(root.path(), done, "at the end").await;
    let count = script.operation_count();
    assert!(count >= 30, "{count} operations are too few to prove anything");
    for number in 0..count {
        let (root, mut done) = (scratch(), 0);
        let script = Script::fails_at(root.path(), number, Fault::Io);
        let result = scenario(root.path(), script.disk(), deletion, &mut done).await;
        let what = script.log()[number].clone();
        assert!(result.is_err(), "{what} failed and nobody noticed");
        check(root.path(), done, &what).await;

        let (root, mut done) = (scratch(), 0);
        let script = Script::cuts_power_at(root.path(), number);
        assert!(scenario(root.path(), script.disk(), deletion, &mut done).await.is_err());
        for unsynced in Unsynced::ALL {
            let found = scratch();
            script.after_power_loss(unsynced, found.path()).unwrap();
            check(found.path(), done, &format!("{unsynced:?} before {what}")).await;
        }
    }
}

#[tokio::test]
async fn damaged_labels_are_data_loss_and_the_bytes_stay_readable() {
    let root = scratch();
    scenario(root.path(), Disk::new(), Deletion::Alone, &mut 0).await.unwrap();
    let digest = sha256(b"blob");
    let file = root.path().join("labels/sha256").join(digest.hex());
    for bytes in ["5:cut", "1:k,", "x:y,1:z,"] {
        std::fs::write(&file, bytes).unwrap();
        let store = LocalStore::open_labelled(root.path(), Disk::new()).unwrap();
        let error = store.info(&digest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss);
        assert!(error.message().contains("labels"), "{error}");
        assert_eq!(store.open(&digest).await.unwrap().read_at(0, 4).await.unwrap(), "blob");
    }
    std::fs::remove_file(&file).unwrap();
    let store = LocalStore::open_labelled(root.path(), Disk::new()).unwrap();
    assert!(store.info(&digest).await.unwrap().labels.is_empty());
}

#[tokio::test]
async fn what_is_deleted_together_takes_its_labels_along_and_leaves_the_listing() {
    let root = scratch();
    let store = LocalStore::open_labelled(root.path(), Disk::new()).unwrap();
    // More than a listing reads at once.
    let contents: Vec<String> = (0..150).map(|number| number.to_string()).collect();
    for content in &contents {
        let mut ingest = store.ingest(content, IngestOptions::default()).await.unwrap();
        ingest.write(content.clone().into()).await.unwrap();
        ingest.commit(CommitOptions { labels: labels(content), ..CommitOptions::default() }).await.unwrap();
    }
    let first = store.list(&Filters::all(), None, 1).await.unwrap();
    let mut digests: Vec<_> = contents.iter().map(|content| sha256(content.as_bytes())).collect();
    digests.sort();
    assert_eq!(first[0].digest, digests[0]);
    let (kept, gone) = (digests.remove(149), digests);
    assert!(store.delete_all(&gone).await.into_iter().all(|result| result.is_ok()));
    let rest = store.list(&Filters::all(), Some(&gone[0]), usize::MAX).await.unwrap();
    assert_eq!(rest.into_iter().map(|info| info.digest).collect::<Vec<_>>(), [kept]);
    assert_eq!(root.path().join("labels/sha256").read_dir().unwrap().count(), 1);
}
