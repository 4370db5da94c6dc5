use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

fn cortend(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cortend"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments reads no input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_version_is_the_third_word() {
    let output = cortend(&["--version"], b"");
    let line = text(&output.stdout);
    let version = line.split_whitespace().nth(2).unwrap();
    assert!(version.starts_with("v2.") && version.contains("+corten."), "{line}");
}

#[test]
fn the_printed_defaults_can_be_read_again() {
    let output = cortend(&["config", "default"], b"");
    assert!(output.status.success());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, &output.stdout).unwrap();
    let dumped = cortend(&["--config", path.to_str().unwrap(), "config", "dump"], b"");
    assert_eq!(text(&dumped.stdout), text(&output.stdout));
    assert_eq!(text(&dumped.stderr), "", "no setting of ours is unknown to us");
}

#[test]
fn an_old_file_is_dumped_in_the_current_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, "version = 2\nbogus = 1\n[grpc]\naddress = '/tmp/x.sock'\n").unwrap();
    let dumped = cortend(&["--config", path.to_str().unwrap(), "config", "migrate"], b"");
    let table: toml::Table = text(&dumped.stdout).parse().unwrap();
    assert_eq!(table["version"].as_integer(), Some(4));
    assert_eq!(table["plugins"]["io.containerd.server.v1.grpc"]["address"].as_str(), Some("/tmp/x.sock"));
    assert!(text(&dumped.stderr).contains("bogus"));
}

#[test]
fn a_missing_file_and_an_unknown_word_are_refused() {
    for arguments in [&["--config", "/no/such/file"][..], &["serve"], &["--log-level", "loud"]] {
        let output = cortend(arguments, b"");
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_hook_gets_the_facts_in_its_arguments() {
    let state = br#"{"ociVersion":"1.0.2","id":"c1","pid":42,"status":"created","bundle":"/b","annotations":{"k":"v"}}"#;
    let words = ["oci-hook", "--", "echo", "{{id}}", "{{pid}}", "{{annotation \"k\"}}"];
    let output = cortend(&words, state);
    assert_eq!(text(&output.stdout), "c1 42 v\n", "{}", text(&output.stderr));
    let output = cortend(&["oci-hook", "echo", "{{nothing}}"], state);
    assert!(!output.status.success() && text(&output.stderr).contains("nothing"));
}

#[test]
fn an_event_for_a_daemon_that_is_not_there_is_an_error_that_names_the_socket() {
    let words = ["--address", "/no/such.sock", "publish", "--namespace", "n", "--topic", "/t"];
    let output = cortend(&words, b"");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("/no/such.sock"), "{}", text(&output.stderr));
    let output = cortend(&words, b"\xff\xff");
    assert!(text(&output.stderr).contains("no protobuf Any"), "{}", text(&output.stderr));
}
