use std::path::Path;

use proptest::prelude::*;

use super::{entry, own_mounts, unescaped};

#[test]
fn a_line_with_optional_fields_and_blanks_in_names_is_read() {
    let line =
        br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:2 - overlay over\134lay rw,lowerdir=/a:/b";
    let read = entry(line).unwrap();
    assert_eq!((read.id, read.parent_id), (36, 35));
    assert_eq!(read.mount_point, Path::new("/mnt 2"));
    assert_eq!(read.source, Path::new("over\\lay"));
    assert_eq!(read.kind, "overlay");
    assert_eq!(read.super_options, "rw,lowerdir=/a:/b");
}

#[test]
fn lines_that_are_none_are_passed_over() {
    assert_eq!(entry(b""), None);
    assert_eq!(entry(b"36 35 98:0 / /mnt rw"), None);
    assert_eq!(entry(b"x 35 98:0 / /mnt rw - ext4 /dev/a rw"), None);
}

#[test]
fn the_root_of_this_process_is_among_its_mounts() {
    assert!(own_mounts().unwrap().iter().any(|entry| entry.mount_point == Path::new("/")));
}

proptest! {
    #[test]
    fn escaping_as_the_kernel_does_is_undone(name in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut written = Vec::new();
        for byte in &name {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' => written.extend(format!("\\{byte:03o}").bytes()),
                other => written.push(*other),
            }
        }
        prop_assert_eq!(unescaped(&written), name);
    }
}
