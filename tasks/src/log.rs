//! The fifo into which a shim logs: it must always have a reader, or the shim blocks or dies (row H11).

use std::io;

use corten_types::{Error, Result};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::{OpenOptions, Receiver},
    task::AbortHandle,
};

use crate::{bundle::Bundle, registry::Key};

/// The longest line that is passed on whole; longer ones are cut into pieces.
const MAX_LINE_BYTES: usize = 8192;

/// Reads the fifo `log` of one bundle until it is dropped, and passes its lines to `tracing`.
#[derive(Debug)]
pub(crate) struct LogDrain(AbortHandle);

impl LogDrain {
    /// Makes the fifo if need be, opens it and reads it from now on. Opened for both directions, so that it has no end.
    pub(crate) fn open(bundle: &Bundle, key: &Key) -> Result<Self> {
        let path = bundle.file("log");
        let failed =
            |source: io::Error| Error::io(format!("cannot open the shim's log {}", path.display()), source);
        match mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o700), 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(source) => return Err(failed(source.into())),
        }
        let pipe = OpenOptions::new().read_write(true).open_receiver(&path).map_err(failed)?;
        Ok(Self(tokio::spawn(drain(pipe, key.clone())).abort_handle()))
    }
}

impl Drop for LogDrain {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn drain(mut pipe: Receiver, key: Key) {
    let mut pending = Vec::with_capacity(MAX_LINE_BYTES);
    let mut buffer = [0; 4096];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        for byte in buffer.get(..count).unwrap_or_default() {
            if *byte == b'\n' || pending.len() >= MAX_LINE_BYTES {
                pass_on(&key, &pending);
                pending.clear();
            }
            if *byte != b'\n' {
                pending.push(*byte);
            }
        }
    }
}

fn pass_on(key: &Key, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    let line = line.trim();
    if !line.is_empty() {
        tracing::info!(target: "shim", namespace = %key.namespace, id = %key.id, "{line}");
    }
}
