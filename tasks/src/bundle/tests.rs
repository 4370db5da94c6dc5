use super::*;
use corten_types::ErrorKind;

fn spec(json: &str) -> Any {
    Any { type_url: SPEC_TYPE.into(), value: json.as_bytes().to_vec().into() }
}

fn scratch() -> (tempfile::TempDir, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("root"), &folder.path().join("state"));
    let bundle = layout.bundle(&"default".parse().unwrap(), "web");
    (folder, bundle)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_host_group_of_the_containers_root_is_found() {
    let mapped = r#"{"linux":{"gidMappings":[{"containerID":1,"hostID":7,"size":9},{"containerID":0,"hostID":1000,"size":1}]}}"#;
    assert_eq!(mapped_root_group(mapped.as_bytes()).unwrap(), Some(1000));
    for none in [
        "{}",
        r#"{"linux":null}"#,
        r#"{"linux":{"gidMappings":null}}"#,
        r#"{"linux":{"gidMappings":[{"containerID":0,"hostID":0,"size":1}]}}"#,
    ] {
        assert_eq!(mapped_root_group(none.as_bytes()).unwrap(), None, "{none}");
    }
    assert_eq!(mapped_root_group(b"[").unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_bundle_is_made_and_removed_with_its_work_folder() {
    let (folder, bundle) = scratch();
    bundle.create(&spec("{ }")).unwrap();
    assert_eq!(fs::read(bundle.file("config.json")).unwrap(), b"{ }");
    assert_eq!((mode(bundle.path()), mode(&bundle.rootfs())), (0o700, 0o711));
    assert_eq!(mode(bundle.path().parent().unwrap()), 0o711);
    assert_eq!(mode(&folder.path().join("state").join(FOLDER)), 0o711);
    assert!(fs::read_link(bundle.file("work")).unwrap().is_dir());
    bundle.delete().unwrap();
    bundle.delete().unwrap();
    for left in [bundle.path(), &bundle.work] {
        assert_eq!(fs::read_dir(left.parent().unwrap()).unwrap().count(), 0);
    }
}

#[test]
fn a_second_bundle_of_the_same_name_is_refused_and_a_bad_spec_leaves_nothing() {
    let (_folder, bundle) = scratch();
    let refused = bundle.create(&spec("not JSON")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert!(!bundle.path().exists() && !bundle.work.exists());
    bundle.create(&spec("{}")).unwrap();
    let refused = bundle.create(&spec(r#"{"other":1}"#)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(bundle.file("config.json")).unwrap(), b"{}");
}

#[test]
fn a_half_deleted_bundle_of_the_same_name_is_no_obstacle() {
    let (_folder, bundle) = scratch();
    bundle.create(&spec("{}")).unwrap();
    let hidden = bundle.path().with_file_name(".web");
    fs::create_dir_all(hidden.join("rootfs")).unwrap();
    write_file(&hidden.join("config.json"), b"{}", 0o600).unwrap();
    bundle.delete().unwrap();
    assert!(!hidden.exists() && !bundle.path().exists());
}

#[test]
fn files_left_in_a_rootfs_are_never_removed() {
    let (_folder, bundle) = scratch();
    bundle.create(&spec("{}")).unwrap();
    write_file(&bundle.rootfs().join("precious"), b"data", 0o600).unwrap();
    assert!(bundle.delete().is_err());
    assert!(bundle.rootfs().join("precious").exists());
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bootstrap.json");
    replace_file(&path, b"a longer content", 0o600).unwrap();
    replace_file(&path, b"short", 0o644).unwrap();
    assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (b"short".as_slice(), 0o644));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
