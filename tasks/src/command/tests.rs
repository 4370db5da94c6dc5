use super::*;
use corten_types::ErrorKind;

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn output_is_kept_apart_or_together() {
    let apart = run(shell("echo out; echo err >&2; cat"), b"in", Streams::Apart, LIMIT).await.unwrap();
    assert_eq!(
        (apart.stdout.as_slice(), apart.stderr.as_slice()),
        (b"out\nin".as_slice(), b"err\n".as_slice())
    );
    let merged = run(shell("echo out; echo err >&2; exit 3"), b"", Streams::Merged, LIMIT).await.unwrap();
    assert_eq!(
        (merged.stdout.as_slice(), merged.stderr.as_slice()),
        (b"out\nerr\n".as_slice(), b"".as_slice())
    );
    assert_eq!(merged.status.code(), Some(3));
}

#[tokio::test]
async fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
    let output = run(shell("sleep 1000 & echo $!"), b"", Streams::Merged, LIMIT).await.unwrap();
    let pid: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_its_children() {
    let late =
        run(shell("sleep 60; true"), b"", Streams::Merged, Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn input_that_nobody_reads_and_endless_output_are_no_trouble() {
    let input = vec![b'x'; 1 << 20];
    let output = run(shell("exit 0"), &input, Streams::Apart, LIMIT).await.unwrap();
    assert!(output.status.success());
    let script = format!("head -c {} /dev/zero", MAX_OUTPUT_BYTES + 100_000);
    let output = run(shell(&script), b"", Streams::Apart, LIMIT).await.unwrap();
    assert_eq!(output.stdout.len(), MAX_OUTPUT_BYTES);
    let missing = run(Command::new("/not/there"), b"", Streams::Apart, LIMIT).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}
