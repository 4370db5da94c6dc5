//! Files without a name: what goes into a runtime and what comes out of it.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    process::Stdio,
};

use rustix::fs::{MemfdFlags, memfd_create};

/// How much of a runtime's output is kept.
const MAX_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;

/// Collects what a process prints. Unlike a pipe it needs no reader, never fills up, and does not wait for descendants that
/// keep it open.
pub(crate) struct Output(File);

impl Output {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(memfd_create(c"runtime-output", MemfdFlags::CLOEXEC)?.into()))
    }

    /// A descriptor for the process. All of them share one position, so that lines follow each other.
    pub(crate) fn stdio(&self) -> io::Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }

    pub(crate) fn read(mut self) -> io::Result<Vec<u8>> {
        self.0.rewind()?;
        let mut bytes = Vec::new();
        self.0.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A file with these bytes, read from its beginning.
pub(crate) fn holding(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"runtime-input", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
