//! The terminal that a runtime hands over.

use std::{
    fs::File,
    io::{Read, Write},
};

use corten_runtime_runc::{ConsoleSocket, CreateOptions, ProcessIo};

use crate::{bundle::Bundle, root_or_skip};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_with_a_terminal_talks_over_it() {
    root_or_skip!();
    let bundle = Bundle::new(&["sh", "-c", "read word; tty; echo got-$word"], true);
    let socket = ConsoleSocket::bind().unwrap();
    let options =
        CreateOptions { console_socket: Some(socket.path().to_owned()), ..CreateOptions::default() };
    bundle.runtime.create(&bundle.id, bundle.path(), &options, ProcessIo::default()).await.unwrap();
    let mut master = File::from(socket.receive().await.unwrap());
    bundle.runtime.start(&bundle.id).await.unwrap();
    master.write_all(b"ping\n").unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0_u8; 256];
    // The read fails with EIO when the last process closes the terminal.
    while let Ok(count) = master.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..count]);
    }
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains("/dev/") && seen.contains("got-ping"), "{seen}");
}
