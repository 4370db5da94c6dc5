//! Binding sockets.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use corten_server::transport::{SocketOptions, bind};
use corten_types::ErrorKind;

use crate::support::own;

#[tokio::test]
async fn a_socket_appears_with_its_mode_and_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let mut options = own();
    options.mode = 0o640;
    if options.uid == 0 {
        (options.uid, options.gid) = (1, 2);
    }
    let _listener = bind(&path, &options).unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o640);
    assert_eq!((found.uid(), found.gid()), (options.uid, options.gid));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left beside it");
    tokio::net::UnixStream::connect(&path).await.expect("it is ready as soon as it is there");
}

#[tokio::test]
async fn a_socket_in_use_is_refused_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    let _listener = bind(&path, &own()).unwrap();
    let error = bind(&path, &own()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.message().contains("is in use"), "{error}");
    tokio::net::UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_socket_that_nobody_listens_to_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    drop(bind(&path, &own()).unwrap());
    assert!(path.exists());
    let _listener = bind(&path, &own()).unwrap();
    tokio::net::UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sock");
    std::fs::File::create(&path).unwrap();
    assert_eq!(bind(&path, &own()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(path.is_file());
}

#[tokio::test]
async fn a_path_that_is_too_long_and_a_folder_that_is_not_there_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("a".repeat(120));
    assert_eq!(bind(&long, &own()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let nowhere = folder.path().join("no/a.sock");
    assert_eq!(bind(&nowhere, &SocketOptions::default()).unwrap_err().kind(), ErrorKind::NotFound);
}
