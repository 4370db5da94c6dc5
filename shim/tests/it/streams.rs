//! Terminals and log files of real containers.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use corten_api::containerd::task::v3;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::{
    alone::{Scratch, unique},
    root_or_skip, until_async,
};

fn fifo(path: &Path) -> String {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path.display().to_string()
}

/// Reads what is there, without waiting.
fn drain(file: &mut std::fs::File, into: &mut String) {
    let mut buffer = [0; 4096];
    while let Ok(count) = std::io::Read::read(file, &mut buffer) {
        if count == 0 {
            return;
        }
        into.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[tokio::test]
async fn a_terminal_is_typed_on_resized_and_read() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("tty");
    scratch.write_bundle(&id, &["sh"], true, |_| {});
    let shim = scratch.shim(&id).await;
    let mut request = scratch.create_request(&id);
    request.terminal = true;
    request.stdin = fifo(&scratch.path().join("stdin"));
    request.stdout = fifo(&scratch.path().join("stdout"));
    shim.create(&request).await.unwrap();
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let mut output = OpenOptions::new().read(true).custom_flags(nonblocking).open(&request.stdout).unwrap();
    shim.start(&id, "").await.unwrap();
    let size = v3::ResizePtyRequest { id: id.clone(), width: 123, height: 45, ..Default::default() };
    let _: () = shim.call("ResizePty", &size).await.unwrap();
    let mut input = OpenOptions::new().write(true).open(&request.stdin).unwrap();
    let mut seen = String::new();
    input.write_all(b"tty; stty size\n").unwrap();
    until_async("the answer of the terminal", || {
        drain(&mut output, &mut seen);
        seen.contains("45 123") && seen.contains("/dev/")
    })
    .await;
    // A client that goes away and comes back finds the container as it was.
    drop(input);
    drop(output);
    let mut output = OpenOptions::new().read(true).custom_flags(nonblocking).open(&request.stdout).unwrap();
    let mut input = OpenOptions::new().write(true).open(&request.stdin).unwrap();
    input.write_all(b"echo $((6*7))\n").unwrap();
    until_async("the answer after the return", || {
        drain(&mut output, &mut seen);
        seen.contains("\n42")
    })
    .await;
    input.write_all(b"exit 5\n").unwrap();
    assert_eq!(shim.wait(&id, "").await, 5);
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}

#[tokio::test]
async fn all_of_a_large_output_is_there_when_the_deletion_returns() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("large");
    scratch.write_bundle(&id, &["sh", "-c", "seq 1 200000; echo end >&2"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let log = scratch.path().join("logs/log");
    let uri = format!("file://{}", log.display());
    let mut request = scratch.create_request(&id);
    request.stdout.clone_from(&uri);
    request.stderr = uri;
    shim.create(&request).await.unwrap();
    shim.start(&id, "").await.unwrap();
    assert_eq!(shim.wait(&id, "").await, 0);
    shim.delete(&id, "").await.unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    let numbers = text.lines().filter_map(|line| line.parse::<u32>().ok());
    assert!(numbers.eq(1..=200_000), "{} bytes", text.len());
    assert!(text.contains("end\n"));
    scratch.finish(shim).await;
}
