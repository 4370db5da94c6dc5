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
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        lines.feed(buffer.get(..count).unwrap_or_default(), |line| {
            tracing::info!(target: "shim", namespace = %key.namespace, id = %key.id, "{line}");
        });
    }
}

/// Cuts a stream into lines.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], mut pass_on: impl FnMut(&str)) {
        for byte in bytes {
            let ends = *byte == b'\n';
            if ends || self.pending.len() >= MAX_LINE_BYTES {
                let line = String::from_utf8_lossy(&self.pending);
                if !line.trim().is_empty() {
                    pass_on(line.trim());
                }
                self.pending.clear();
            }
            if !ends {
                self.pending.push(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests;
