use super::*;
use corten_types::ErrorKind;

fn program(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_last_two_parts_of_a_name_name_the_program() {
    assert_eq!(program_name("io.containerd.runc.v2").unwrap(), "containerd-shim-runc-v2");
    assert_eq!(program_name("io.containerd.kata.v2").unwrap(), "containerd-shim-kata-v2");
    assert_eq!(program_name("runc.v2").unwrap(), "containerd-shim-runc-v2");
    for bad in ["", "runc", ".runc.v2", "io/containerd.runc.v2", "./runc.v2"] {
        assert_eq!(program_name(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
}

#[test]
fn given_folders_come_first_and_the_first_find_is_kept() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folders = vec![first.path().to_path_buf(), second.path().to_path_buf()];
    let lookup = Lookup::new(BTreeMap::new(), folders);
    let found = program(second.path(), "containerd-shim-lookup-v1");
    assert_eq!(lookup.find("io.containerd.lookup.v1").unwrap(), found);
    let later = program(first.path(), "containerd-shim-lookup-v1");
    assert_eq!(lookup.find("io.containerd.lookup.v1").unwrap(), found);
    std::fs::remove_file(&found).unwrap();
    assert_eq!(lookup.find_again(&found).unwrap(), later, "an upgrade may move a shim");
    assert_eq!(lookup.find_again(&later).unwrap(), later);
}

#[test]
fn paths_and_overrides_must_be_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "anything");
    let overrides = BTreeMap::from([("io.containerd.runc.v2".to_owned(), path.clone())]);
    let lookup = Lookup::new(overrides, Vec::new());
    assert_eq!(lookup.find("io.containerd.runc.v2").unwrap(), path);
    assert_eq!(lookup.find(path.to_str().unwrap()).unwrap(), path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    for runtime in ["io.containerd.runc.v2", path.to_str().unwrap(), "io.containerd.absent.v7"] {
        let missing = lookup.find(runtime).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(missing.message().contains("binary not installed"), "{missing:?}");
    }
}

#[test]
fn no_more_names_are_remembered_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let lookup = Lookup::new(BTreeMap::new(), vec![folder.path().to_path_buf()]);
    for number in 0..=MAX_REMEMBERED {
        program(folder.path(), &format!("containerd-shim-n{number}-v1"));
        lookup.find(&format!("io.n{number}.v1")).unwrap();
    }
    assert_eq!(locked(&lookup.found).len(), 1, "at the limit the memory begins anew");
}
