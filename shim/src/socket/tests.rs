#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::{Bound, address, bind, clean, grouping_id, path, path_of, remove_if_dead};

#[test]
fn the_path_is_the_hash_of_address_namespace_and_group() {
    // printf /run/containerd/containerd.sock/default/one | sha256sum
    let found = path("/run/containerd/s", "/run/containerd/containerd.sock", "default", "one");
    let name = found.file_name().unwrap().to_str().unwrap();
    assert_eq!(name.len(), 64);
    assert_eq!(name, "807c19c0f9e3589fd68d61496d6cc415b3a5bdfef35f683f88a1d6c8cd58eed9");
    assert_eq!(path_of(&address(&found)).unwrap(), found);
    assert_eq!(path_of("abstract"), None);
}

#[test]
fn paths_are_cleaned_as_go_cleans_them() {
    for (before, after) in
        [("/a//b/./c/../d/", "/a/b/d"), ("/../a", "/a"), ("a/..", "."), ("../a", "../a"), ("", ".")]
    {
        assert_eq!(clean(before), after, "{before:?}");
    }
}

#[test]
fn the_first_grouping_annotation_counts() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("config.json"), text).unwrap();
    write(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.containerd.runc.v2.group":"group"}}"#);
    assert_eq!(grouping_id(folder.path(), "own").unwrap(), "group");
    write(r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#);
    assert_eq!(grouping_id(folder.path(), "own").unwrap(), "pod");
    write(r#"{"annotations":null}"#);
    assert_eq!(grouping_id(folder.path(), "own").unwrap(), "own");
    write("{");
    assert!(grouping_id(folder.path(), "own").is_err());
}

#[test]
fn a_socket_is_shared_while_it_answers_and_replaced_when_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s/socket");
    let Bound::New(listener) = bind(&socket).unwrap() else { panic!("a new path has no shim") };
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(socket.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert!(matches!(bind(&socket).unwrap(), Bound::Answering));
    remove_if_dead(&socket).unwrap();
    assert!(socket.exists());
    drop(listener);
    assert!(matches!(bind(&socket).unwrap(), Bound::New(_)));
    remove_if_dead(&socket).unwrap();
    assert!(!socket.exists());
    remove_if_dead(&socket).unwrap();
    remove_if_dead(Path::new("/nonexistent/socket")).unwrap();
}

#[test]
fn a_path_that_the_kernel_would_not_take_is_refused() {
    let long = format!("/tmp/{}", "x".repeat(120));
    assert!(bind(Path::new(&long)).is_err());
}
