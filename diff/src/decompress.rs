//! Decompression, and finding out whether it is needed (row A02).

use std::io::{self, BufRead, Cursor, Read};

use corten_types::{Error, ErrorKind};
use flate2::bufread::MultiGzDecoder;

/// The largest window that a zstd layer may ask for: 128 MiB, what the format's own tools accept without being told.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// How many bytes tell what a stream is.
const HEAD_BYTES: usize = 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), with any number of members.
    Gzip,
    /// Zstandard (RFC 8878), with any number of frames, also ones that are skipped.
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream say.
    #[must_use]
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A frame that is skipped has a length after its magic.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, _, _, _, _, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Looks at the first bytes of `source` and gives a reader of what they compress. A stream of no known kind, also an
/// empty one, is given as it is.
///
/// Reading fails with an error of the class `DataLoss` where the compressed stream is damaged or cut short, or where
/// something else follows it.
///
/// # Errors
/// Those of `source`.
pub fn decompressor<'a>(mut source: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = [0; HEAD_BYTES];
    let mut length = 0;
    while length < HEAD_BYTES {
        match source.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let compression = Compression::detect(&head[..length]);
    let source = Cursor::new(head[..length].to_vec()).chain(source);
    let inner: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => return Ok(Box::new(source)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(Explained { inner, compression }))
}

/// A decompressor whose errors say what is broken, and what to do.
struct Explained<'a> {
    inner: Box<dyn Read + Send + 'a>,
    compression: Compression,
}

impl Read for Explained<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).map_err(|error| {
            let is_of_source = error.get_ref().is_some_and(|inner| inner.is::<Error>());
            if is_of_source || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            let name = self.compression.name();
            let message = match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    format!("the {name} stream is cut short; fetch the layer again")
                }
                _ => format!("the {name} stream is damaged; fetch the layer again"),
            };
            io::Error::other(Error::new(ErrorKind::DataLoss, message).with_source(error))
        })
    }
}

#[cfg(test)]
mod tests;
