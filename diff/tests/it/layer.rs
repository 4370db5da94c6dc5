//! Archives for tests, written in few words.

use corten_diff::archive::{EntryKind, Header, Writer};

/// An archive that grows by one entry a call.
pub(crate) struct Layer {
    writer: Writer<Vec<u8>>,
}

pub(crate) fn header(kind: EntryKind, path: impl AsRef<[u8]>) -> Header {
    Header { modified_seconds: 1_000_000_000, ..Header::new(kind, path.as_ref()) }
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self { writer: Writer::new(Vec::new()) }
    }

    pub(crate) fn entry(mut self, header: &Header, contents: &[u8]) -> Self {
        let header = Header { size_bytes: contents.len() as u64, ..header.clone() };
        self.writer.write_header(&header).unwrap();
        self.writer.write_contents(contents).unwrap();
        self
    }

    pub(crate) fn file(self, path: impl AsRef<[u8]>, contents: &[u8]) -> Self {
        self.entry(&header(EntryKind::File, path), contents)
    }

    pub(crate) fn directory(self, path: impl AsRef<[u8]>) -> Self {
        self.entry(&header(EntryKind::Directory, path), b"")
    }

    pub(crate) fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let link = target.as_ref().to_vec();
        self.entry(&Header { link, ..header(EntryKind::Symlink, path) }, b"")
    }

    pub(crate) fn hard_link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let link = target.as_ref().to_vec();
        self.entry(&Header { link, ..header(EntryKind::HardLink, path) }, b"")
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.writer.finish().unwrap()
    }
}
