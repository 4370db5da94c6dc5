use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Lower, escaped, split_unescaped, unescaped};

fn lower(text: &str) -> Lower {
    Lower::of(&["index=off".to_owned(), format!("lowerdir={text}")]).unwrap()
}

#[test]
fn lower_folders_become_relative_to_the_folder_above_them_all() {
    let (common, relative) = lower("/r/snapshots/12/fs:/r/snapshots/1/fs").relative().unwrap();
    assert_eq!(common, Path::new("/r/snapshots"));
    assert_eq!(relative, ["12/fs", "1/fs"]);
}

#[test]
fn a_folder_that_holds_another_is_not_the_common_one() {
    let (common, relative) = lower("/r/a:/r/a/b").relative().unwrap();
    assert_eq!(common, Path::new("/r"));
    assert_eq!(relative, ["a", "a/b"]);
}

#[test]
fn folders_that_share_only_the_root_stay_as_they_are() {
    assert!(lower("/a/1:/b/1").relative().is_none());
    assert!(lower("relative/1:relative/2").relative().is_none());
    assert!(lower("/a/../b/1:/a/2").relative().is_none());
}

#[test]
fn an_escaped_colon_is_part_of_a_name() {
    let found = lower("/r/a\\:b/fs:/r/c/fs");
    assert_eq!(found.folders, ["/r/a\\:b/fs", "/r/c/fs"]);
    let (common, relative) = found.relative().unwrap();
    assert_eq!(common, Path::new("/r"));
    assert_eq!(relative, ["a\\:b/fs", "c/fs"]);
    assert_eq!(found.moved(&common, Path::new("/x:y")), "lowerdir=/x\\:y/a\\:b/fs:/x\\:y/c/fs");
}

proptest! {
    #[test]
    fn relative_folders_joined_again_are_what_was_given(names in prop::collection::vec("[a-z0-9:\\\\]{1,6}", 1..20)) {
        let folders: Vec<String> = names.iter().map(|name| format!("/root/{}/fs", escaped(name))).collect();
        let text = folders.join(":");
        prop_assert_eq!(&split_unescaped(&text), &folders);
        let (common, relative) = lower(&text).relative().unwrap();
        for (given, short) in folders.iter().zip(relative) {
            prop_assert_eq!(common.join(unescaped(&short)), PathBuf::from(unescaped(given)));
        }
    }
}
