//! Many writers at once, and writers that stand still or vanish.

use std::path::Path;

use corten_api::containerd::services::content::v1::{WriteAction, WriteContentRequest};
use tonic::Code;

use crate::{
    content::{Client, Writing, client, digest, message},
    support::{PATIENCE, Server},
};

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap()
}

async fn upload(mut client: Client, number: u32) {
    let bytes = number.to_le_bytes().repeat(80_000);
    let reference = format!("upload-{number}");
    let mut writing = Writing::begin(&mut client).await;
    let mut offset = 0;
    for chunk in bytes.chunks(100_000) {
        let answer = writing.send(message(WriteAction::Write, &reference, offset, chunk)).await.unwrap();
        offset += signed(chunk.len());
        assert_eq!(
            (answer.offset, answer.digest),
            (offset, digest(&bytes[..usize::try_from(offset).unwrap()]))
        );
    }
    let commit = WriteContentRequest {
        total: signed(bytes.len()),
        expected: digest(&bytes),
        ..message(WriteAction::Commit, &reference, offset, b"")
    };
    assert_eq!(writing.send(commit).await.unwrap().digest, digest(&bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_uploads_go_on_beside_one_that_stands_still() {
    let server = Server::whole().await;
    let mut client = client(&server).await;
    let mut still = Writing::begin(&mut client).await;
    still.send(message(WriteAction::Write, "still", 0, b"half ")).await.unwrap();
    let uploads: Vec<_> = (0..64).map(|number| tokio::spawn(upload(client.clone(), number))).collect();
    for upload in uploads {
        upload.await.unwrap();
    }
    let committed = still.send(message(WriteAction::Commit, "still", 5, b"done")).await.unwrap();
    assert_eq!(committed.digest, digest(b"half done"));
    server.stop().await;
}

/// The files below `folder` that this process has open.
fn open_files(folder: &Path) -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let paths = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    paths.filter(|path| path.starts_with(folder)).map(|path| path.display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_vanish_leave_ingests_that_go_on_and_no_open_file() {
    let server = Server::whole().await;
    let bytes = vec![9; 200_000];
    for number in 0..16 {
        // A connection of its own, so that it goes with its client.
        let mut vanishing = client(&server).await;
        let mut writing = Writing::begin(&mut vanishing).await;
        let reference = format!("r{number}");
        writing.send(message(WriteAction::Write, &reference, 0, &bytes)).await.unwrap();
    }
    let ingests = server.socket.with_file_name("content").join("ingest");
    let closed = async {
        while !open_files(&ingests).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the files are closed");
    let mut client = client(&server).await;
    for number in 0..16_u8 {
        let reference = format!("r{number}");
        let whole = [bytes.as_slice(), &[number]].concat();
        let resumed = async {
            loop {
                let mut writing = Writing::begin(&mut client).await;
                match writing.send(message(WriteAction::Stat, &reference, 0, b"")).await {
                    Ok(stat) => return (writing, stat),
                    Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
                }
            }
        };
        let (mut writing, stat) = tokio::time::timeout(PATIENCE, resumed).await.expect("the ref is free");
        assert_eq!((stat.offset, stat.digest), (200_000, digest(&bytes)));
        let commit = message(WriteAction::Commit, &reference, 200_000, &[number]);
        assert_eq!(writing.send(commit).await.unwrap().digest, digest(&whole));
    }
    server.stop().await;
}
