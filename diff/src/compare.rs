//! Computing a layer: what runs on the threads that walk, hash and compress.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::SystemTime,
};

use bytes::Bytes;
use corten_mount::TemporaryMount;
use corten_types::{Algorithm, Digest, Error, ErrorKind, Mount, Result};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    Compression,
    changes::Trees,
    gzip::GzipWriter,
    layer_writer::LayerWriter,
    pipeline::{BUFFER_BYTES, BUFFERS},
    target::{lower_layers, option_value},
    unpack::Root,
};

/// How many bytes go to the content store at once.
const CHUNK_BYTES: usize = 1 << 20;

/// How many chunks wait for the content store.
pub(crate) const CHUNKS: usize = 4;

/// One layer to compute.
pub(crate) struct CompareJob {
    pub(crate) lower: Vec<Mount>,
    pub(crate) upper: Vec<Mount>,
    pub(crate) compression: Compression,
    pub(crate) latest: Option<SystemTime>,
    pub(crate) temporary_folder: PathBuf,
    /// Where the layer goes.
    pub(crate) chunks: mpsc::Sender<Bytes>,
}

impl CompareJob {
    /// Writes the layer and returns its diff id.
    pub(crate) fn run(self) -> Result<Digest> {
        let lower = View::of(&self.lower, &self.temporary_folder)?;
        let upper = View::of(&self.upper, &self.temporary_folder)?;
        let differences = folder_of_differences(&self.lower, &self.upper);
        let outcome = self.write(&lower, &upper, differences.as_deref());
        let closed = upper.close().and(lower.close());
        let diff_id = outcome?;
        closed.map(|()| diff_id)
    }

    fn write(self, lower: &View, upper: &View, differences: Option<&Path>) -> Result<Digest> {
        let open = |path: &Path| {
            Root::open(path)
                .map_err(|errno| Error::io(format!("cannot open {}", path.display()), errno.into()))
        };
        let lower = open(lower.path())?;
        let upper = open(upper.path())?;
        let differences = differences.map(open).transpose()?;
        let Self { compression, latest, chunks, .. } = self;
        thread::scope(|scope| {
            let (sender, buffers) = sync_channel(BUFFERS);
            let packer = thread::Builder::new()
                .name("layer-pack".into())
                .spawn_scoped(scope, move || pack(&buffers, compression, chunks))
                .map_err(|error| Error::io("cannot start a thread for a layer", error))?;
            let sink = Buffered { sender, current: Vec::new() };
            let mut layer = LayerWriter::new(sink, &upper, latest);
            let trees = Trees { lower: Some(&lower), upper: &upper, differences: differences.as_ref() };
            let written = trees
                .compare(|path, change| layer.add(path, change))
                .and_then(|()| layer.finish())
                .and_then(|mut sink| sink.send().map_err(|error| Error::io("cannot write the layer", error)));
            let packed = packer
                .join()
                .unwrap_or_else(|_| Err(Error::internal("the thread that packs a layer panicked")));
            match (written, packed) {
                // Without a packer the walk fails too, but says less.
                (_, Err(error)) | (Err(error), Ok(None)) => Err(error),
                (Err(error), Ok(Some(_))) => Err(error),
                (Ok(()), Ok(diff_id)) => diff_id.ok_or_else(abandoned),
            }
        })
    }
}

/// A tree to look at: the folder behind a bind mount, or a mount that lasts as long as the value.
enum View {
    Folder(PathBuf),
    Mounted(TemporaryMount),
}

impl View {
    fn of(mounts: &[Mount], temporary_folder: &Path) -> Result<Self> {
        if let [mount] = mounts {
            let is_mapped = ["uidmap=", "gidmap="].iter().any(|map| option_value(mount, map).is_some());
            if mount.kind == "bind" && mount.target.is_empty() && !is_mapped {
                return Ok(Self::Folder(PathBuf::from(&mount.source)));
            }
        }
        TemporaryMount::read_only(mounts, temporary_folder).map(Self::Mounted)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::Mounted(mounted) => mounted.path(),
        }
    }

    fn close(self) -> Result<()> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Mounted(mounted) => mounted.close(),
        }
    }
}

/// The folder that holds all differences, if `upper` is an overlay with one layer more than `lower`.
fn folder_of_differences(lower: &[Mount], upper: &[Mount]) -> Option<PathBuf> {
    let mut above = layers(upper)?;
    let below = layers(lower)?;
    if below.is_empty() || above.len() != below.len() + 1 || above[1..] != below {
        return None;
    }
    Some(above.remove(0))
}

/// The folders that a mount shows on top of each other, the uppermost first.
fn layers(mounts: &[Mount]) -> Option<Vec<PathBuf>> {
    let [mount] = mounts else { return None };
    if !mount.target.is_empty() {
        return None;
    }
    match mount.kind.as_str() {
        "bind" => Some(vec![PathBuf::from(&mount.source)]),
        "overlay" => {
            let upper = option_value(mount, "upperdir=").map(PathBuf::from);
            Some(upper.into_iter().chain(lower_layers(mount)).collect())
        }
        _ => None,
    }
}

/// Collects small writes into buffers for the packer. All but the last are full: what comes out depends on where they end.
struct Buffered {
    sender: SyncSender<Vec<u8>>,
    current: Vec<u8>,
}

impl Buffered {
    fn send(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.current, Vec::with_capacity(BUFFER_BYTES));
        self.sender.send(full).map_err(|_| io::Error::other(abandoned()))
    }
}

impl Write for Buffered {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let length = data.len().min(BUFFER_BYTES - self.current.len());
        self.current.extend_from_slice(&data[..length]);
        if self.current.len() == BUFFER_BYTES {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes and compresses. Nothing if nobody wants the layer any more.
fn pack(
    buffers: &Receiver<Vec<u8>>,
    compression: Compression,
    chunks: mpsc::Sender<Bytes>,
) -> Result<Option<Digest>> {
    let mut hash = Sha256::new();
    let failed = |error: io::Error| {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            return Ok(None);
        }
        Err(Error::io("cannot compress the layer", error))
    };
    let mut encoder = match Encoder::new(compression, Chunked { chunks, current: Vec::new() }) {
        Ok(encoder) => encoder,
        Err(error) => return failed(error),
    };
    for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
        hash.update(&buffer);
        if let Err(error) = encoder.write(buffer) {
            return failed(error);
        }
    }
    match encoder.finish().and_then(|mut chunked| chunked.send()) {
        Ok(()) => Ok(Some(Digest::from_hash(Algorithm::Sha256, &hash.finalize()))),
        Err(error) => failed(error),
    }
}

enum Encoder {
    Plain(Chunked),
    Gzip(GzipWriter<Chunked>),
    Zstd(zstd::stream::write::Encoder<'static, Chunked>),
}

impl Encoder {
    fn new(compression: Compression, sink: Chunked) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(sink),
            Compression::Gzip => Self::Gzip(GzipWriter::new(sink)?),
            Compression::Zstd => {
                Self::Zstd(zstd::stream::write::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?)
            }
        })
    }

    fn write(&mut self, buffer: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.write_all(&buffer),
            Self::Gzip(encoder) => encoder.write_block(buffer),
            Self::Zstd(encoder) => encoder.write_all(&buffer),
        }
    }

    fn finish(self) -> io::Result<Chunked> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Collects writes into chunks for the content store.
struct Chunked {
    chunks: mpsc::Sender<Bytes>,
    current: Vec<u8>,
}

impl Chunked {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.current);
        if chunk.is_empty() {
            return Ok(());
        }
        self.chunks.blocking_send(chunk.into()).map_err(|_| io::Error::other(abandoned()))
    }
}

impl Write for Chunked {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.current.extend_from_slice(data);
        if self.current.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn abandoned() -> Error {
    Error::new(ErrorKind::Cancelled, "nobody waits for the layer any more")
}
