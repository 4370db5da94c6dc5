use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{
    AuthorityFilter, FLAG_END_HEADERS, FLAG_END_STREAM, FLAG_PADDED, FLAG_PRIORITY, FrameHeader,
    MAX_HEADER_BLOCK_BYTES, PREFACE_BYTES, TYPE_CONTINUATION, TYPE_HEADERS, collect_block,
    hpack::{Decoder, Field, encode},
};

const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A reader that gives its bytes in pieces of one size.
struct Pieces(Vec<u8>, usize);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.1.min(self.0.len()).min(buffer.remaining());
        let piece: Vec<u8> = self.0.drain(..length).collect();
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHeader { length: payload.len(), kind, flags, stream: [0, 0, 0, stream] }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn block(authority: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in
        [(":method", "POST"), (":path", "/a/b"), (":authority", authority), ("te", "trailers")]
    {
        encode(&Field { name: name.as_bytes(), value: value.as_bytes(), never_indexed: false }, &mut bytes);
    }
    bytes
}

fn request(stream: u8, authority: &str) -> Vec<u8> {
    frame(TYPE_HEADERS, FLAG_END_HEADERS, stream, &block(authority))
}

fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), frames.concat()].concat()
}

fn filtered_by(bytes: &[u8], piece_bytes: usize) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut result = Vec::new();
        AuthorityFilter::new(Pieces(bytes.to_vec(), piece_bytes)).read_to_end(&mut result).await?;
        Ok(result)
    })
}

/// What passes, which must not depend on how the bytes arrive.
fn filtered(bytes: &[u8]) -> Vec<u8> {
    let whole = filtered_by(bytes, usize::MAX).unwrap();
    for piece_bytes in [1, 2, 7, 9, 10, 33, 100, 4096] {
        assert_eq!(filtered_by(bytes, piece_bytes).unwrap(), whole, "in pieces of {piece_bytes}");
    }
    whole
}

fn authorities(bytes: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    let mut rest = &bytes[PREFACE_BYTES..];
    while let Some(header) = FrameHeader::read(rest) {
        let mut frame_bytes = 9 + header.length;
        if header.kind == TYPE_HEADERS {
            frame_bytes = super::whole_block(rest).unwrap().unwrap();
            let mut compressed = Vec::new();
            collect_block(&rest[..frame_bytes], &mut compressed).unwrap();
            decoder
                .decode(&compressed, |field| {
                    if field.name == b":authority" {
                        found.push(String::from_utf8(field.value.to_vec()).unwrap());
                    }
                })
                .unwrap();
        }
        rest = &rest[frame_bytes..];
    }
    assert!(rest.is_empty(), "frames are whole");
    found
}

#[test]
fn what_is_good_passes_untouched() {
    let data = frame(0, 0, 1, &vec![7; 20_000]);
    let bytes = connection(&[
        frame(4, 0, 0, &[]),
        request(1, "localhost"),
        data,
        frame(8, 0, 0, &[0, 1, 0, 0]),
        request(3, "localhost:1234"),
        request(5, "[::1]:80"),
        frame(6, 0, 0, &[0; 8]),
    ]);
    assert_eq!(filtered(&bytes), bytes);
}

#[test]
fn what_a_library_would_refuse_becomes_localhost() {
    for bad in ["/run/a.sock", "%2Frun%2Fa.sock", "", "a b", "run/containerd.sock", "a@b@c/"] {
        let data = frame(0, FLAG_END_STREAM, 1, &vec![7; 20_000]);
        let bytes = connection(&[request(1, bad), data.clone(), request(3, bad), data.clone()]);
        let result = filtered(&bytes);
        assert_eq!(authorities(&result), ["localhost", "localhost"], "{bad:?}");
        assert!(result.windows(data.len()).filter(|window| *window == data).count() == 2);
    }
}

#[test]
fn a_client_may_begin_well_and_go_on_badly() {
    // The good block puts the authority and a field into the table; the later ones refer to them.
    let mut indexed = Vec::new();
    indexed.extend(b"\x41\x09localhost\x40\x01x\x01y");
    let first = frame(TYPE_HEADERS, FLAG_END_HEADERS, 1, &indexed);
    let second = request(3, "/run/a.sock");
    let third = frame(TYPE_HEADERS, FLAG_END_HEADERS, 5, &[0x80 | 63, 0x80 | 62]);
    let result = filtered(&connection(&[first.clone(), second, third]));
    assert_eq!(authorities(&result), ["localhost", "localhost", "localhost"]);
    assert!(result[PREFACE_BYTES..].starts_with(&first));
    let literal = b"\x00\x01x\x01y";
    assert!(result.windows(literal.len()).any(|window| window == literal), "x is spelled out in the third");
}

#[test]
fn padding_priority_and_the_end_of_the_stream_are_understood() {
    let mut payload = vec![3, 0x80, 0, 0, 0, 15];
    payload.extend(block("/run/a.sock"));
    payload.extend([0; 3]);
    let flags = FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY | FLAG_END_STREAM;
    let result = filtered(&connection(&[frame(TYPE_HEADERS, flags, 1, &payload)]));
    let header = FrameHeader::read(&result[PREFACE_BYTES..]).unwrap();
    assert_eq!(header.flags, FLAG_END_HEADERS | FLAG_PRIORITY | FLAG_END_STREAM);
    assert_eq!(result[PREFACE_BYTES + 9..][..5], [0x80, 0, 0, 0, 15]);
    assert_eq!(authorities(&result), ["localhost"]);
}

#[test]
fn a_block_in_many_frames_is_put_together_and_cut_again() {
    let mut whole = block("/run/a.sock");
    let long = vec![b'v'; 20_000];
    encode(&Field { name: b"long", value: &long, never_indexed: false }, &mut whole);
    let mut frames = Vec::new();
    let mut parts = whole.chunks(5000).enumerate().peekable();
    while let Some((number, part)) = parts.next() {
        let kind = if number == 0 { TYPE_HEADERS } else { TYPE_CONTINUATION };
        let flags = if parts.peek().is_none() { FLAG_END_HEADERS } else { 0 };
        frames.push(frame(kind, flags, 1, part));
    }
    let result = filtered(&connection(&frames));
    assert_eq!(authorities(&result), ["localhost"]);
    let first = FrameHeader::read(&result[PREFACE_BYTES..]).unwrap();
    assert_eq!((first.length, first.flags), (16_384, 0));
}

#[test]
fn a_block_may_be_as_large_as_the_limit_and_no_larger() {
    // Three continuation frames, each of which says how it is long; the last frame decides.
    let sized = |total_bytes: usize| {
        let mut frames = vec![frame(TYPE_HEADERS, 0, 1, &block("localhost"))];
        let mut left = total_bytes - frames[0].len() - 9;
        // Size updates to 31 bytes are fields of one byte that say nothing.
        while left > 16_000 {
            frames.push(frame(TYPE_CONTINUATION, 0, 1, &[0x3e; 16_000]));
            left -= 16_009;
        }
        frames.push(frame(TYPE_CONTINUATION, FLAG_END_HEADERS, 1, &vec![0x3e; left]));
        connection(&frames)
    };
    let bytes = sized(MAX_HEADER_BLOCK_BYTES);
    assert_eq!(filtered_by(&bytes, 1000).unwrap(), bytes);
    let error = filtered_by(&sized(MAX_HEADER_BLOCK_BYTES + 1), 1000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn what_is_broken_ends_the_connection() {
    for frames in [
        vec![frame(TYPE_HEADERS, 0, 1, &block("localhost")), frame(0, 0, 1, b"x")],
        vec![frame(TYPE_HEADERS, FLAG_END_HEADERS | FLAG_PADDED, 1, &[9, 0x82])],
        vec![frame(TYPE_HEADERS, FLAG_END_HEADERS | FLAG_PADDED, 1, &[])],
        vec![frame(TYPE_HEADERS, FLAG_END_HEADERS | FLAG_PRIORITY, 1, &[0; 4])],
        vec![frame(TYPE_HEADERS, FLAG_END_HEADERS, 1, &[0x80])],
    ] {
        let error = filtered_by(&connection(&frames), 13).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn an_end_in_the_middle_passes_what_there_is() {
    let bytes = connection(&[frame(4, 0, 0, &[]), request(1, "localhost")]);
    for length in 0..bytes.len() {
        assert_eq!(filtered(&bytes[..length]), bytes[..length], "{length} bytes");
    }
}
