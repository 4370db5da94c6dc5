#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::{
    Owner, StreamNames, prepare,
    uri::{Helper, Scheme},
};
use crate::reaper::Reaper;

fn fifo(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

fn owner(reaper: &Reaper) -> Owner<'_> {
    Owner { namespace: "default", container: "one", uid: 0, gid: 0, reaper }
}

fn names(stdin: &Path, stdout: &Path, stderr: &Path) -> StreamNames {
    let text = |path: &Path| path.display().to_string();
    StreamNames { stdin: text(stdin), stdout: text(stdout), stderr: text(stderr), terminal: false }
}

/// Opens a FIFO as clients do: for reading, without waiting for a writer.
fn read_end(path: &Path) -> File {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap()
}

#[test]
fn names_of_outputs_are_understood() {
    assert_eq!(Scheme::parse("").unwrap(), Scheme::Null);
    assert_eq!(Scheme::parse("/run/fifo").unwrap(), Scheme::Path("/run/fifo".into()));
    assert_eq!(Scheme::parse("fifo:///run/fifo").unwrap(), Scheme::Path("/run/fifo".into()));
    assert_eq!(Scheme::parse("file:///var/log/x%20y").unwrap(), Scheme::File("/var/log/x y".into()));
    let helper = |must_say_ready| Helper {
        program: "/bin/log".into(),
        arguments: ["--to", "a b", "quiet"].map(str::to_owned).to_vec(),
        must_say_ready,
    };
    let query = "/bin/log?--to=a+b&quiet&--to=second";
    assert_eq!(Scheme::parse(&format!("binary://{query}")).unwrap(), Scheme::Binary(helper(false)));
    assert_eq!(Scheme::parse(&format!("binary-v2://{query}")).unwrap(), Scheme::Binary(helper(true)));
    assert!(Scheme::parse("http://x").is_err());
}

#[tokio::test]
async fn output_survives_a_client_that_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (fifo(folder.path(), "stdout"), fifo(folder.path(), "stderr"));
    let reaper = Reaper::default();
    let names = StreamNames { stdin: String::new(), ..names(Path::new(""), &stdout, &stderr) };
    let mut prepared = prepare(&names, owner(&reaper)).await.unwrap();
    let io = prepared.take_io();
    let attached = prepared.attach().await.unwrap();
    let first = read_end(&stdout);
    drop(first);
    let mut process = File::from(io.stdout.unwrap());
    process.write_all(b"after the client went").unwrap();
    drop(process);
    drop(io.stderr);
    let mut second = read_end(&stdout);
    attached.finish().await;
    let mut text = String::new();
    second.read_to_string(&mut text).unwrap();
    assert_eq!(text, "after the client went");
}

#[tokio::test]
async fn input_ends_with_close_io_and_not_with_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let stdin = fifo(folder.path(), "stdin");
    let reaper = Reaper::default();
    let names = StreamNames { stdin: stdin.display().to_string(), ..StreamNames::default() };
    let mut prepared = prepare(&names, owner(&reaper)).await.unwrap();
    let io = prepared.take_io();
    let attached = prepared.attach().await.unwrap();
    attached.open_stdin().unwrap();
    attached.open_stdin().unwrap();
    let mut process = File::from(io.stdin.unwrap());
    for word in ["first", "second"] {
        let mut client = OpenOptions::new().write(true).open(&stdin).unwrap();
        client.write_all(word.as_bytes()).unwrap();
        drop(client);
        let (read, seen) = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; 64];
            let count = process.read(&mut buffer).unwrap();
            buffer.truncate(count);
            (process, buffer)
        })
        .await
        .unwrap();
        process = read;
        assert_eq!(seen, word.as_bytes());
    }
    attached.close_stdin();
    let end = tokio::task::spawn_blocking(move || process.read(&mut [0; 8]).unwrap()).await.unwrap();
    assert_eq!(end, 0);
    attached.finish().await;
}

#[tokio::test]
async fn both_outputs_are_appended_to_one_log_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("new/folder/log");
    let uri = format!("file://{}", log.display());
    let names = StreamNames { stdout: uri.clone(), stderr: uri, ..StreamNames::default() };
    let reaper = Reaper::default();
    for expected in ["out\nerr\n", "out\nerr\nout\nerr\n"] {
        let mut prepared = prepare(&names, owner(&reaper)).await.unwrap();
        let io = prepared.take_io();
        let attached = prepared.attach().await.unwrap();
        let text = || std::fs::read_to_string(&log).unwrap();
        let before = text();
        File::from(io.stdout.unwrap()).write_all(b"out\n").unwrap();
        // The two pipes are read in any order; wait for the first line.
        while text() == before {
            tokio::task::yield_now().await;
        }
        File::from(io.stderr.unwrap()).write_all(b"err\n").unwrap();
        attached.finish().await;
        assert_eq!(text(), expected);
    }
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let reaper = Reaper::default();
    for names in [
        StreamNames { stdin: "/nonexistent/in".into(), ..StreamNames::default() },
        StreamNames { stdout: "/nonexistent/out".into(), ..StreamNames::default() },
        StreamNames { stdout: "binary:///nonexistent/helper".into(), ..StreamNames::default() },
    ] {
        let Err(error) = prepare(&names, owner(&reaper)).await else { panic!("{names:?} was opened") };
        assert!(error.chain().contains("/nonexistent/"), "{error:?}");
    }
}

#[tokio::test]
async fn a_log_helper_gets_both_outputs_and_a_clean_environment() {
    let _only = crate::reaper::tests::ONLY_REAPER.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("helper");
    let output = folder.path().join("output");
    let text = format!(
        "#!/bin/sh\nexec 5>&-\n{{ echo \"$@\" $CONTAINER_NAMESPACE $CONTAINER_ID ${{HOME-none}}; cat <&3; cat <&4; }} > {}\n",
        output.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let reaper = Arc::new(Reaper::default());
    let children = crate::reaper::child_signal().unwrap();
    tokio::spawn(crate::reaper::run(reaper.clone(), children));
    let names =
        StreamNames { stdout: format!("binary://{}?word=value", script.display()), ..StreamNames::default() };
    let mut prepared = prepare(&names, owner(&reaper)).await.unwrap();
    let io = prepared.take_io();
    let attached = prepared.attach().await.unwrap();
    File::from(io.stdout.unwrap()).write_all(b"out\n").unwrap();
    File::from(io.stderr.unwrap()).write_all(b"err\n").unwrap();
    let expected = "word value default one none\nout\nerr\n";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::fs::read_to_string(&output).unwrap_or_default() != expected {
        assert!(std::time::Instant::now() < deadline, "{:?}", std::fs::read_to_string(&output));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    attached.finish().await;
}

#[tokio::test]
async fn a_strict_helper_that_says_nothing_is_refused() {
    let reaper = Reaper::default();
    let names = StreamNames { stdout: "binary-v2:///bin/true".into(), ..StreamNames::default() };
    let Err(error) = prepare(&names, owner(&reaper)).await else { panic!("it was taken for ready") };
    assert!(error.message().contains("did not call ready"), "{error:?}");
}
