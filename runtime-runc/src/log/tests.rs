#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use super::{end, last_error};

#[test]
fn the_last_error_is_taken_and_older_ones_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    assert_eq!(end(&path), 0);
    std::fs::write(&path, "{\"level\":\"error\",\"msg\":\"old\",\"time\":\"x\"}\n").unwrap();
    let start = end(&path);
    assert_eq!(last_error(&path, start).unwrap(), None);
    let more = concat!(
        "{\"level\":\"error\",\"msg\":\"old\",\"time\":\"x\"}\n",
        "{\"level\":\"error\",\"msg\":\" first \"}\nnot json\n",
        "{\"level\":\"error\",\"msg\":\"second\\n\"}\n{\"level\":\"warning\",\"msg\":\"w\"}\n",
    );
    std::fs::write(&path, more).unwrap();
    assert_eq!(last_error(&path, start).unwrap().as_deref(), Some("second"));
    assert_eq!(last_error(&path, 1 << 40).unwrap().as_deref(), Some("second"), "a truncated log is new");
}

#[test]
fn a_log_that_does_not_exist_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    assert!(last_error(&folder.path().join("none"), 0).is_err());
}
