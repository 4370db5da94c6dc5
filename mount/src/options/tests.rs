use corten_types::{ErrorKind, Mount};
use libc::{MS_BIND, MS_NOSUID, MS_RDONLY, MS_REC, MS_SLAVE};

use super::{IdMapping, parse};

fn mount_with(options: &[&str]) -> Mount {
    Mount { options: options.iter().map(|word| (*word).to_owned()).collect(), ..Mount::default() }
}

#[test]
fn words_of_fstab_become_flags_and_the_rest_is_data() {
    let parsed = parse(&mount_with(&["rbind", "ro", "nosuid", "size=1k", "mode=755", "defaults"])).unwrap();
    assert_eq!(parsed.flags, MS_BIND | MS_REC | MS_RDONLY | MS_NOSUID);
    assert_eq!(parsed.data, ["size=1k", "mode=755"]);
}

#[test]
fn a_later_word_takes_back_an_earlier_one() {
    assert_eq!(parse(&mount_with(&["ro", "nosuid", "rw", "suid"])).unwrap().flags, 0);
}

#[test]
fn propagation_is_kept_apart() {
    let parsed = parse(&mount_with(&["bind", "rslave"])).unwrap();
    assert_eq!(parsed.flags, MS_BIND);
    assert_eq!(parsed.propagation, [MS_SLAVE | MS_REC]);
}

#[test]
fn direct_io_belongs_to_the_loop_device_only() {
    let parsed = parse(&mount_with(&["loop", "direct-io", "errors=remount-ro"])).unwrap();
    assert!(parsed.loop_device && parsed.direct_io);
    assert_eq!(parsed.data, ["errors=remount-ro"]);
    assert_eq!(parse(&mount_with(&["direct-io"])).unwrap().data, ["direct-io"]);
}

#[test]
fn an_option_of_the_mount_manager_is_refused() {
    let refused = parse(&mount_with(&["X-containerd.mkdir.path=/a"])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn both_mappings_are_needed() {
    let parsed = parse(&mount_with(&["uidmap=0:1000:1", "gidmap=0:2000:1"])).unwrap();
    assert_eq!(parsed.id_mapping, Some(IdMapping { users: "0:1000:1".into(), groups: "0:2000:1".into() }));
    assert!(parsed.data.is_empty());
    let refused = parse(&mount_with(&["uidmap=0:1000:1"])).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}
