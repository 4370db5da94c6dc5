//! `ctr content`.

use crate::fixture::Fixture;

/// SHA-256 of "hello\n".
const HELLO: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

#[test]
fn content_is_ingested_read_labelled_and_removed() {
    let Some(fixture) = Fixture::quiet() else { return };
    let ctr = &fixture.ctr;
    let ingest = ["content", "ingest", "--expected-digest", HELLO, "--expected-size", "6", "hello"];
    let run = ctr.run_with_input(&ingest, b"hello\n").unwrap();
    assert!(run.success(), "{}", run.stderr);
    assert_eq!(ctr.ok(&["content", "get", HELLO]).unwrap(), "hello\n");
    ctr.ok(&["content", "label", HELLO, "colour=red"]).unwrap();
    let listed = ctr.ok(&["content", "ls", "labels.colour==red"]).unwrap();
    assert!(listed.contains(HELLO) && listed.lines().count() == 2, "{listed}");
    assert_eq!(ctr.ok(&["content", "active"]).unwrap().lines().count(), 1, "no ingest is left");
    ctr.ok(&["content", "rm", HELLO]).unwrap();
    let refused = ctr.refused(&["content", "get", HELLO]).unwrap();
    assert!(refused.contains("not found"), "{refused}");
    fixture.finish();
}

#[test]
fn large_content_comes_back_byte_for_byte() {
    let Some(fixture) = Fixture::quiet() else { return };
    let bytes: Vec<u8> =
        (0..40_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let run = fixture.ctr.run_with_input(&["content", "ingest", "large"], &bytes).unwrap();
    assert!(run.success(), "{}", run.stderr);
    let listed = fixture.ctr.ok(&["content", "ls"]).unwrap();
    let digest = listed
        .lines()
        .find(|line| line.contains("40MB") || line.contains("38.15"))
        .unwrap_or_else(|| panic!("{listed}"));
    let digest = digest.split_whitespace().next().unwrap();
    let output = fixture.ctr.command(&["content", "get", digest]).output().unwrap();
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    fixture.finish();
}

#[test]
fn wrong_digests_and_sizes_make_no_blob() {
    let Some(fixture) = Fixture::quiet() else { return };
    let ctr = &fixture.ctr;
    let before = ctr.ok(&["content", "ls", "-q"]).unwrap();
    let wrong = ["content", "ingest", "--expected-digest", HELLO, "wrong"];
    let run = ctr.run_with_input(&wrong, b"other\n").unwrap();
    assert!(!run.success() && run.stderr.contains("failed precondition"), "{}", run.stderr);
    let short = ["content", "ingest", "--expected-digest", HELLO, "--expected-size", "7", "short"];
    assert!(!ctr.run_with_input(&short, b"hello\n").unwrap().success());
    let malformed = ["content", "ingest", "--expected-digest", "sha256:abc", "malformed"];
    assert!(!ctr.run_with_input(&malformed, b"hello\n").unwrap().success());
    assert_eq!(ctr.ok(&["content", "ls", "-q"]).unwrap(), before);
    fixture.finish();
}
