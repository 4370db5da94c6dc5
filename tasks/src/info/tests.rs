use super::*;
use corten_types::ErrorKind;

#[test]
fn mapped_ids_are_found_in_all_their_forms() {
    for uses in [
        r#"{"mounts":[{"options":["rbind","ridmap"]}]}"#,
        r#"{"mounts":[{},{"options":["idmap"]}]}"#,
        r#"{"mounts":[{"uidMappings":[]}]}"#,
        r#"{"mounts":[{"gidMappings":[{"size":1}]}]}"#,
    ] {
        assert!(uses_mapped_mounts(uses.as_bytes()), "{uses}");
    }
    for not in ["", "[]", "{}", r#"{"mounts":null}"#, r#"{"mounts":[{"options":null,"uidMappings":null}]}"#] {
        assert!(!uses_mapped_mounts(not.as_bytes()), "{not}");
    }
}

#[test]
fn a_runtime_must_say_that_it_knows_them() {
    let knows = r#"{"linux":{"mountExtensions":{"idmap":{"enabled":true}}}}"#;
    check_mapped_mounts(knows.as_bytes()).unwrap();
    for not in ["{}", r#"{"linux":{"mountExtensions":{"idmap":{"enabled":false}}}}"#] {
        let refused = check_mapped_mounts(not.as_bytes()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    }
    assert_eq!(check_mapped_mounts(b"x").unwrap_err().kind(), ErrorKind::Unknown);
}
