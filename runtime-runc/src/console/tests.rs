use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixStream},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::ConsoleSocket;

#[tokio::test]
async fn one_descriptor_is_received_and_the_folder_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let socket = ConsoleSocket::bind_below(folder.path()).unwrap();
    let sender = UnixStream::connect(socket.path()).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let descriptors = [writer.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(&sender, &[IoSlice::new(b"/dev/pts/0")], &mut control, SendFlags::empty()).unwrap();
    let received = socket.receive().await.unwrap();
    drop(writer);
    rustix::io::write(&received, b"x").unwrap();
    drop(received);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "x");
    drop(socket);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_message_without_a_descriptor_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = ConsoleSocket::bind_below(folder.path()).unwrap();
    let mut sender = UnixStream::connect(socket.path()).unwrap();
    std::io::Write::write_all(&mut sender, b"hello").unwrap();
    assert!(socket.receive().await.is_err());
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_an_error() {
    assert!(ConsoleSocket::bind_below(std::path::Path::new("/nonexistent")).is_err());
}
