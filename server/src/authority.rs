//! Lets clients in that send the path of the socket as `:authority` (row X01).
//!
//! gRPC's C core (Python, C++, Ruby), Java and old Go clients do so, raw or percent-encoded, and the HTTP/2 library here
//! refuses what is not a host name. [`AuthorityFilter`] stands between the socket and the library: it looks at the header
//! blocks that come in and writes `localhost` over an authority that would be refused. Everything else passes as it is, the
//! payload of data frames without being copied.

mod hpack;
mod huffman;
mod static_table;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::hpack::{Decoder, Field};

/// What stands where a bad authority stood.
const REPLACEMENT: &[u8] = b"localhost";

/// The length of the text that every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// The length of a frame's header (RFC 9113, section 4.1).
const FRAME_HEADER_BYTES: usize = 9;

/// The largest payload that any peer takes; what is encoded here is cut to it.
const FRAME_PAYLOAD_BYTES: usize = 16_384;

/// The most bytes that the frames of one header block may take together. A client that sends more is cut off.
pub const MAX_HEADER_BLOCK_BYTES: usize = 64 << 10;

/// How much is read at once while a header block is not whole.
const STAGING_READ_BYTES: usize = 4096;

const TYPE_HEADERS: u8 = 1;
const TYPE_CONTINUATION: u8 = 9;
const FLAG_END_STREAM: u8 = 0x1;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;

/// A connection whose reading side corrects authorities. Writing is untouched.
#[derive(Debug)]
pub struct AuthorityFilter<S> {
    inner: S,
    blocks: Blocks,
    /// How many bytes pass before the next frame begins.
    passing: usize,
    /// What begins with a frame's header and must not pass yet: a part of a header, or a header block that is not whole.
    staging: Vec<u8>,
    /// Whether `staging` was looked at and needs more to go on.
    incomplete: bool,
    /// What may pass, from `ready_from` on.
    ready: Vec<u8>,
    ready_from: usize,
}

impl<S> AuthorityFilter<S> {
    /// Filters what is read from `inner`, which must be at the beginning of an HTTP/2 connection.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            blocks: Blocks::default(),
            passing: PREFACE_BYTES,
            staging: Vec::new(),
            incomplete: false,
            ready: Vec::new(),
            ready_from: 0,
        }
    }

    /// How many bytes of `bytes` may pass as they are. The rest begins with a frame that needs a closer look.
    fn scan(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut place = self.passing.min(bytes.len());
        self.passing -= place;
        while self.passing == 0 {
            let rest = &bytes[place..];
            let Some(frame) = FrameHeader::read(rest) else { break };
            if frame.kind == TYPE_HEADERS {
                let Some(block_bytes) = whole_block(rest)? else { break };
                if self.blocks.correct(&rest[..block_bytes], &mut self.ready)? {
                    // What follows waits behind the corrected block.
                    self.incomplete = false;
                    self.staging.extend_from_slice(&rest[block_bytes..]);
                    return Ok(place);
                }
                place += block_bytes;
                continue;
            }
            let frame_bytes = FRAME_HEADER_BYTES + frame.length;
            let here = frame_bytes.min(rest.len());
            place += here;
            self.passing = frame_bytes - here;
        }
        self.incomplete = true;
        self.staging.extend_from_slice(&bytes[place..]);
        Ok(place)
    }

    /// Moves from `staging` to `ready` what can be.
    fn settle(&mut self) -> io::Result<()> {
        let staged = std::mem::take(&mut self.staging);
        let corrected_before = self.ready.len();
        let passed = self.scan(&staged)?;
        // What passes stood before what was corrected.
        self.ready.splice(corrected_before..corrected_before, staged[..passed].iter().copied());
        Ok(())
    }

    fn take_ready(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.ready_from..];
        let taken = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..taken]);
        self.ready_from += taken;
        if self.ready_from == self.ready.len() {
            self.ready.clear();
            self.ready_from = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AuthorityFilter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() || buffer.remaining() == 0 {
                this.take_ready(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.staging.is_empty() {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
                if buffer.filled().len() == before {
                    return Poll::Ready(Ok(()));
                }
                let passed = this.scan(&buffer.filled()[before..])?;
                buffer.set_filled(before + passed);
                if passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else if !this.incomplete {
                this.settle()?;
            } else {
                let mut chunk = [0; STAGING_READ_BYTES];
                let mut chunk = ReadBuf::new(&mut chunk);
                ready!(Pin::new(&mut this.inner).poll_read(context, &mut chunk))?;
                if chunk.filled().is_empty() {
                    // The client left in the middle of a frame: the library is to see what there is, and then the end.
                    this.ready = std::mem::take(&mut this.staging);
                } else {
                    this.staging.extend_from_slice(chunk.filled());
                    this.incomplete = false;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AuthorityFilter<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// The header blocks of a connection so far.
#[derive(Debug, Default)]
struct Blocks {
    decoder: Decoder,
    /// Once a block was encoded anew, the library's table is not the client's any more: every later one must be.
    encodes: bool,
    /// The last authority that was good: most connections only ever send one.
    good_authority: Vec<u8>,
    compressed: Vec<u8>,
    encoded: Vec<u8>,
}

impl Blocks {
    /// Reads the header block in `frames`, which are whole. Returns `false` if they may pass as they are; else the corrected
    /// frames were appended to `corrected`.
    fn correct(&mut self, frames: &[u8], corrected: &mut Vec<u8>) -> io::Result<bool> {
        let first = FrameHeader::read(frames).ok_or_else(|| broken("a header block without a frame"))?;
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.clear();
        let priority = collect_block(frames, &mut compressed)?;
        self.encoded.clear();
        let Self { decoder, encodes, good_authority, encoded, .. } = self;
        let decoded = decoder.decode(&compressed, |field| {
            let bad = field.name == b":authority" && !is_good(field.value, good_authority);
            *encodes |= bad;
            let value = if bad { REPLACEMENT } else { field.value };
            hpack::encode(&Field { value, ..field }, encoded);
        });
        self.compressed = compressed;
        decoded.map_err(|failure| io::Error::new(io::ErrorKind::InvalidData, failure))?;
        if self.encodes {
            write_frames(first, priority, &self.encoded, corrected);
        }
        Ok(self.encodes)
    }
}

fn is_good(authority: &[u8], last_good: &mut Vec<u8>) -> bool {
    if authority == last_good.as_slice() && !authority.is_empty() {
        return true;
    }
    let good = http::uri::Authority::try_from(authority).is_ok();
    if good {
        authority.clone_into(last_good);
    }
    good
}

#[derive(Clone, Copy, Debug)]
struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl FrameHeader {
    /// The header that `bytes` begin with, if it is whole.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        Some(Self { length, kind: *kind, flags: *flags, stream: *stream })
    }

    fn write(&self, result: &mut Vec<u8>) {
        let [.., a, b, c] = self.length.to_be_bytes();
        result.extend_from_slice(&[a, b, c, self.kind, self.flags]);
        result.extend_from_slice(&self.stream);
    }
}

/// How many bytes the header block at the beginning of `bytes` takes, with all its frames; `None` if more must come.
fn whole_block(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut place = 0;
    while let Some(frame) = FrameHeader::read(&bytes[place..]) {
        if place > 0 && frame.kind != TYPE_CONTINUATION {
            return Err(broken("a header block is interrupted by another frame"));
        }
        place += FRAME_HEADER_BYTES + frame.length;
        if place > MAX_HEADER_BLOCK_BYTES {
            return Err(broken("a header block is too large"));
        }
        if place > bytes.len() {
            return Ok(None);
        }
        if frame.flags & FLAG_END_HEADERS != 0 {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Appends the compressed block in `frames` to `compressed`, without padding; returns the priority, if there is one.
fn collect_block(frames: &[u8], compressed: &mut Vec<u8>) -> io::Result<Option<[u8; 5]>> {
    let mut priority = None;
    let mut rest = frames;
    while let Some(frame) = FrameHeader::read(rest) {
        let (payload, next) = rest[FRAME_HEADER_BYTES..]
            .split_at_checked(frame.length)
            .ok_or_else(|| broken("a header block is cut"))?;
        rest = next;
        let mut payload = payload;
        if frame.kind == TYPE_HEADERS {
            let mut padding = 0;
            if frame.flags & FLAG_PADDED != 0 {
                let (length, after) =
                    payload.split_first().ok_or_else(|| broken("padding without a length"))?;
                (padding, payload) = (usize::from(*length), after);
            }
            if frame.flags & FLAG_PRIORITY != 0 {
                let (found, after) = payload
                    .split_first_chunk()
                    .ok_or_else(|| broken("a header frame without its priority"))?;
                (priority, payload) = (Some(*found), after);
            }
            let length =
                payload.len().checked_sub(padding).ok_or_else(|| broken("more padding than payload"))?;
            payload = &payload[..length];
        }
        compressed.extend_from_slice(payload);
    }
    Ok(priority)
}

/// Appends a header block as a HEADERS frame and as many CONTINUATION frames as it takes.
fn write_frames(first: FrameHeader, priority: Option<[u8; 5]>, block: &[u8], result: &mut Vec<u8>) {
    let prefix = priority.as_ref().map_or(&[][..], |priority| priority.as_slice());
    let (mut payload, mut rest) = block.split_at(block.len().min(FRAME_PAYLOAD_BYTES - prefix.len()));
    let mut kind = TYPE_HEADERS;
    let mut flags = first.flags & FLAG_END_STREAM | if priority.is_some() { FLAG_PRIORITY } else { 0 };
    let mut prefix = prefix;
    loop {
        if rest.is_empty() {
            flags |= FLAG_END_HEADERS;
        }
        FrameHeader { length: prefix.len() + payload.len(), kind, flags, stream: first.stream }.write(result);
        result.extend_from_slice(prefix);
        result.extend_from_slice(payload);
        if rest.is_empty() {
            return;
        }
        (kind, flags, prefix) = (TYPE_CONTINUATION, 0, &[]);
        (payload, rest) = rest.split_at(rest.len().min(FRAME_PAYLOAD_BYTES));
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
