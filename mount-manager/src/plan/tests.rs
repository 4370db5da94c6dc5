use super::*;
use crate::handler::built_in;

fn handled(kinds: &[&str], options: &ActivateOptions) -> Option<usize> {
    let mounts = kinds.iter().map(|kind| Mount { kind: (*kind).to_owned(), ..Mount::default() }).collect();
    plan(mounts, options, &built_in()).expect("few mounts").map(|plan| plan.handled)
}

#[test]
fn mounts_are_made_up_to_the_last_that_needs_it() {
    let plain = ActivateOptions::default();
    for (kinds, expected) in [
        (&["overlay"][..], None),
        (&[], None),
        (&["bind", "overlay"], None),
        (&["unknown/overlay"], None),
        (&["bind", "format/overlay"], Some(1)),
        (&["bind", "bind", "format/mkdir/overlay", "bind"], Some(2)),
        (&["mkfs/ext4"], Some(0)),
        (&["mkfs/ext4", "bind"], Some(0)),
        (&["loop", "ext4"], Some(1)),
        (&["erofs", "erofs", "format/mkdir/overlay"], Some(2)),
        (&["erofs"], Some(1)),
        (&["mkfs/loop", "format/ext4"], Some(1)),
    ] {
        assert_eq!(handled(kinds, &plain), expected, "{kinds:?}");
    }
}

#[test]
fn temporary_ones_are_all_made() {
    let temporary = ActivateOptions { temporary: true, ..ActivateOptions::default() };
    assert_eq!(handled(&["overlay"], &temporary), Some(1));
    assert_eq!(handled(&["erofs", "format/overlay"], &temporary), Some(2));
    assert_eq!(handled(&[], &temporary), None);
}

#[test]
fn what_the_caller_can_do_is_left_to_it_unless_something_after_it_needs_it() {
    let allow = |kinds: &[&str]| ActivateOptions {
        allowed_types: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        ..ActivateOptions::default()
    };
    assert_eq!(handled(&["loop"], &allow(&["loop"])), None);
    assert_eq!(handled(&["loop", "format/ext4"], &allow(&["loop"])), Some(1));
    assert_eq!(handled(&["bind", "format/overlay"], &allow(&["format/*"])), None);
    assert_eq!(handled(&["bind", "format/overlay"], &allow(&["format/overlay"])), None);
    assert_eq!(handled(&["bind", "format/mkdir/overlay"], &allow(&["format/*"])), Some(1));
    assert_eq!(handled(&["bind", "format/mkdir/overlay"], &allow(&["format/*", "mkdir/*"])), None);
}

#[test]
fn one_mount_too_many_is_refused() {
    let many = |count: usize| vec![Mount { kind: "loop".to_owned(), ..Mount::default() }; count];
    let options = ActivateOptions::default();
    assert!(plan(many(MAX_MOUNTS), &options, &built_in()).is_ok());
    let error = plan(many(MAX_MOUNTS + 1), &options, &built_in()).map(drop).expect_err("one too many");
    assert_eq!(error.kind(), corten_types::ErrorKind::InvalidArgument);
}
