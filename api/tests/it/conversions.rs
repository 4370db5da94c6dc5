//! Messages as plain types.

use std::time::{Duration, UNIX_EPOCH};

use corten_api::{
    containerd::{events::TaskExit, runc::v1::Options, types as wire},
    convert,
};
use corten_types::{Any, Descriptor, Digest, ErrorKind, Labels, Mount, Platform};
use prost_types::{FieldMask, Timestamp};

#[test]
fn moments_survive_also_those_before_1970() {
    let moments = [
        UNIX_EPOCH,
        UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
        UNIX_EPOCH - Duration::new(5, 250_000_000),
    ];
    for moment in moments {
        assert_eq!(convert::system_time(Some(&convert::timestamp(moment))), Some(moment));
    }
}

#[test]
fn no_moment_is_the_year_one_and_back() {
    let zero = convert::timestamp_or_go_zero(None);
    assert_eq!((zero.seconds, zero.nanos), (-62_135_596_800, 0));
    assert_eq!(convert::system_time(Some(&zero)), None);
    assert_eq!(convert::system_time(None), None);
}

#[test]
fn a_moment_that_cannot_be_is_none() {
    for (seconds, nanos) in [(i64::MIN, 0), (i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
        let _ = convert::system_time(Some(&Timestamp { seconds, nanos }));
    }
    assert_eq!(convert::system_time(Some(&Timestamp { seconds: 0, nanos: -1 })), None);
    assert_eq!(convert::system_time(Some(&Timestamp { seconds: i64::MIN, nanos: 0 })), None);
}

#[test]
fn an_any_bears_the_bare_name_and_is_read_with_or_without_prefix() {
    let exit = TaskExit { container_id: "c1".into(), pid: 7, ..Default::default() };
    let any = convert::any_of(&exit);
    assert_eq!(any.type_url, "containerd.events.TaskExit");
    for prefix in ["", "/", "type.googleapis.com/"] {
        let named = Any { type_url: format!("{prefix}{}", any.type_url), value: any.value.clone() };
        assert_eq!(convert::message_of::<TaskExit>(&named).unwrap(), exit);
    }
}

#[test]
fn an_any_of_another_type_or_of_rubbish_is_refused() {
    let any = convert::any_of(&Options::default());
    assert_eq!(convert::message_of::<TaskExit>(&any).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let rubbish =
        Any { type_url: "containerd.events.TaskExit".into(), value: bytes::Bytes::from_static(b"\xff\xff") };
    assert_eq!(convert::message_of::<TaskExit>(&rubbish).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn json_in_an_any_passes_byte_for_byte() {
    let spec = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
        value: bytes::Bytes::from_static(b"{\"ociVersion\":\"1.1.0\", \"limit\": 9007199254740993 }"),
    };
    assert_eq!(convert::any_from_wire(convert::any_to_wire(spec.clone())), spec);
}

#[test]
fn mounts_and_platforms_survive() {
    let mount = Mount {
        kind: "overlay".into(),
        source: "overlay".into(),
        target: "a".into(),
        options: vec!["ro".into(), "userxattr".into()],
    };
    assert_eq!(Mount::from(wire::Mount::from(mount.clone())), mount);
    let platform = Platform {
        os: "linux".into(),
        architecture: "arm".into(),
        variant: "v7".into(),
        os_version: "6".into(),
    };
    assert_eq!(Platform::from(wire::Platform::from(platform.clone())), platform);
}

#[test]
fn descriptors_survive_and_bad_ones_are_refused() {
    let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    let mut descriptor = Descriptor::new("application/vnd.oci.image.layer.v1.tar", digest, 42);
    descriptor.annotations = Labels::from([("a".into(), "b".into())]);
    let sent = wire::Descriptor::from(descriptor.clone());
    assert_eq!(Descriptor::try_from(sent.clone()).unwrap(), descriptor);

    let negative = wire::Descriptor { size: -1, ..sent.clone() };
    assert_eq!(Descriptor::try_from(negative).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let no_digest = wire::Descriptor { digest: "sha256:1".into(), ..sent };
    assert_eq!(Descriptor::try_from(no_digest).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn no_mask_and_an_empty_mask_replace_everything() {
    assert!(convert::update_mask(None).replaces_all());
    assert!(convert::update_mask(Some(FieldMask::default())).replaces_all());
    let mask = convert::update_mask(Some(FieldMask { paths: vec!["labels.a".into()] }));
    assert_eq!(mask.as_slice(), ["labels.a"]);
}
