use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    task::Poll,
};

use futures::FutureExt;
use http_body::Frame;
use tonic::body::Body;

use super::*;

/// A body of these chunks, and then what `end` says.
struct Chunks(VecDeque<Bytes>, Option<Status>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let chunk = self.0.pop_front().map(|chunk| Ok(Frame::data(chunk)));
        Poll::Ready(chunk.or_else(|| self.1.take().map(Err)))
    }
}

fn requests(bytes: &[u8], chunk_bytes: usize, end: Option<Status>) -> Requests {
    let chunks = bytes.chunks(chunk_bytes).map(Bytes::copy_from_slice).collect();
    Requests::raw(Body::new(Chunks(chunks, end)))
}

fn example(data: &[u8]) -> WriteContentRequest {
    WriteContentRequest {
        action: 1,
        r#ref: "layer-sha256:abc".to_owned(),
        total: 1 << 40,
        expected: "sha256:abc".to_owned(),
        offset: -1,
        data: Bytes::copy_from_slice(data),
        labels: [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())].into(),
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.put_u32(message.len() as u32);
    bytes.extend_from_slice(message);
    bytes
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The message that prost decodes from the same bytes.
fn whole(message: WriteMessage) -> WriteContentRequest {
    WriteContentRequest { data: message.data.concat().into(), ..message.head }
}

#[test]
fn messages_are_the_same_however_they_were_cut() {
    let sent = [example(b"some bytes"), example(b""), WriteContentRequest::default(), example(&[7; 300])];
    let bytes: Vec<u8> = sent.iter().flat_map(|message| framed(&message.encode_to_vec())).collect();
    for chunk_bytes in 1..=bytes.len() {
        let mut requests = requests(&bytes, chunk_bytes, None);
        for message in &sent {
            let got = wait(requests.message()).expect("decode").expect("a message");
            assert!(got.head.data.is_empty(), "the data is not in the head");
            assert_eq!(whole(got), *message, "in chunks of {chunk_bytes}");
        }
        assert!(wait(requests.message()).expect("end").is_none());
    }
}

/// Keeps what it hears of.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Bytes>>>);

impl Announcer for Heard {
    fn announce(&self, bytes: Bytes) {
        self.0.lock().expect("nobody panicked").push(bytes);
    }
}

impl Heard {
    fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut self.0.lock().expect("nobody panicked"))
    }
}

/// The requests in `bytes`, and what is announced of them.
fn announced(bytes: &[u8], chunk_bytes: usize) -> (Requests, Heard) {
    let (mut requests, heard) = (requests(bytes, chunk_bytes, None), Heard::default());
    requests.announce_to(Some(Box::new(heard.clone())));
    (requests, heard)
}

/// Where the pieces lie.
fn places(pieces: &[Bytes]) -> Vec<(*const u8, usize)> {
    pieces.iter().map(|piece| (piece.as_ptr(), piece.len())).collect()
}

#[test]
fn data_is_announced_piece_by_piece_as_it_is_then_written() {
    let sent = [example(&[1; 500]), example(&[2; 700]), example(b""), example(&[3; 40])];
    let bytes: Vec<u8> = sent.iter().flat_map(|message| framed(&message.encode_to_vec())).collect();
    for chunk_bytes in 1..=bytes.len() {
        let (mut requests, heard) = announced(&bytes, chunk_bytes);
        for message in &sent {
            let got = wait(requests.message()).expect("decode").expect("a message");
            let hint = heard.take();
            // If the first piece does not tell where the data is, nothing is announced; else all of it.
            assert!(hint.is_empty() || places(&hint) == places(&got.data), "in chunks of {chunk_bytes}");
            assert!(chunk_bytes < bytes.len() || !hint.is_empty() || message.data.is_empty());
            assert_eq!(whole(got), *message);
        }
    }
}

#[test]
fn data_is_announced_before_its_message_is_whole() {
    let bytes = framed(&example(&[7; 1000]).encode_to_vec());
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let (mut requests, heard) = (Requests::raw(Body::new(Channel(receiver))), Heard::default());
    requests.announce_to(Some(Box::new(heard.clone())));
    let mut announced_bytes = 0;
    for (number, chunk) in bytes.chunks(300).enumerate() {
        sender.send(Bytes::copy_from_slice(chunk)).expect("it is read");
        let polled = std::pin::pin!(requests.message()).now_or_never();
        announced_bytes += heard.take().iter().map(Bytes::len).sum::<usize>();
        assert!(announced_bytes > number * 300, "after {} pieces {announced_bytes} bytes", number + 1);
        assert_eq!(polled.is_some(), (number + 1) * 300 >= bytes.len());
    }
    assert_eq!(announced_bytes, 1000);
}

#[test]
fn only_data_that_will_be_written_is_announced() {
    let stat = WriteContentRequest { action: 0, ..example(b"data of a stat") };
    let commit = WriteContentRequest { action: 2, ..example(b"data of a commit") };
    for (message, hint) in [(stat, &b""[..]), (commit, b"data of a commit")] {
        let bytes = framed(&message.encode_to_vec());
        let (mut requests, heard) = announced(&bytes, bytes.len());
        assert_eq!(whole(wait(requests.message()).expect("decode").expect("a message")), message);
        assert_eq!(heard.take().concat(), hint);
    }
}

#[test]
fn fields_in_another_order_and_data_that_comes_twice_are_only_a_worse_hint() {
    let head = WriteContentRequest { data: Bytes::new(), ..example(b"") }.encode_to_vec();
    let field = |data: &[u8]| [&[6 << 3 | 2, data.len() as u8], data].concat();
    let cases = [
        // The data first: nothing says that it will be written.
        ([&field(b"data")[..], &head].concat(), &b""[..], &b"data"[..]),
        ([&head[..], &field(b"first"), &field(b"last")].concat(), b"first", b"last"),
        ([&head[..], &field(b"data"), &[1 << 3, 0]].concat(), b"data", b"data"),
        // More data than the message has room for.
        ([&head[..], &[6 << 3 | 2, 100], b"too short"].concat(), b"", b""),
    ];
    for (message, hint, data) in cases {
        for chunk_bytes in [message.len() + 5, 200] {
            let bytes = framed(&message);
            let (mut requests, heard) = announced(&bytes, chunk_bytes);
            let got = wait(requests.message());
            assert_eq!(heard.take().concat(), hint);
            match WriteContentRequest::decode(&message[..]) {
                Ok(expected) => {
                    assert_eq!(expected.data, data);
                    assert_eq!(whole(got.expect("decode").expect("a message")), expected);
                }
                Err(_) => assert!(got.is_err()),
            }
        }
    }
}

#[test]
fn broken_messages_are_looked_at_without_panic() {
    let message = framed(&example(b"some bytes").encode_to_vec());
    for place in 5..message.len() {
        for value in [0, 0x7f, 0x80, 0xff, message[place] ^ 1] {
            let mut broken = message.clone();
            broken[place] = value;
            for chunk_bytes in [3, 40, broken.len()] {
                let (mut requests, heard) = announced(&broken, chunk_bytes);
                // What it makes of them without anybody who listens is looked at elsewhere.
                let _ = wait(requests.message());
                assert!(heard.take().concat().len() < broken.len());
            }
        }
    }
}

/// A body whose chunks come when somebody sends them.
struct Channel(tokio::sync::mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[test]
fn a_wait_that_is_given_up_anywhere_loses_nothing() {
    let sent = [example(b"some bytes"), example(&[7; 30])];
    let bytes: Vec<u8> = sent.iter().flat_map(|message| framed(&message.encode_to_vec())).collect();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut requests = Requests::raw(Body::new(Channel(receiver)));
    let mut got = Vec::new();
    for byte in bytes {
        sender.send(Bytes::from(vec![byte])).expect("it is read");
        // Polled once, then dropped.
        let polled = std::pin::pin!(requests.message()).now_or_never();
        got.extend(polled.map(|message| whole(message.expect("decode").expect("a message"))));
    }
    assert_eq!(got, sent);
}

#[test]
fn data_is_not_copied() {
    let chunk = Bytes::from(framed(&example(&[7; 1000]).encode_to_vec()));
    let there = chunk.as_ptr_range();
    let mut requests = Requests::raw(Body::new(Chunks([chunk.clone()].into(), None)));
    let got = wait(requests.message()).expect("decode").expect("a message");
    assert_eq!(got.data.len(), 1);
    assert!(there.contains(&got.data[0].as_ptr()), "it lies where it arrived");
}

#[test]
fn fields_that_are_unknown_or_come_twice_are_taken_as_prost_takes_them() {
    let mut message = example(b"first").encode_to_vec();
    // Field 15: a varint, 4 bytes, 8 bytes, a string. Then other data, and another offset.
    message.extend_from_slice(&[15 << 3, 0xff, 0x01]);
    message.extend_from_slice(&[15 << 3 | 5, 1, 2, 3, 4]);
    message.extend_from_slice(&[15 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    message.extend_from_slice(&[15 << 3 | 2, 2, b'h', b'i']);
    message.extend_from_slice(&[6 << 3 | 2, 6, b's', b'e', b'c', b'o', b'n', b'd', 5 << 3, 9]);
    let expected = WriteContentRequest::decode(&message[..]).expect("prost takes it");
    assert_eq!((&expected.data[..], expected.offset), (&b"second"[..], 9));
    let mut requests = requests(&framed(&message), 3, None);
    assert_eq!(whole(wait(requests.message()).expect("decode").expect("a message")), expected);
}

#[test]
fn no_cut_or_broken_message_is_taken_and_none_panics() {
    let message = example(b"some bytes").encode_to_vec();
    for length in 0..message.len() {
        let mine = wait(requests(&framed(&message[..length]), 4, None).message());
        let theirs = WriteContentRequest::decode(&message[..length]);
        assert_eq!(mine.is_ok(), theirs.is_ok(), "cut to {length}");
    }
    for place in 0..message.len() {
        for value in [0, 0x7f, 0x80, 0xff, message[place] ^ 1] {
            let mut broken = message.clone();
            broken[place] = value;
            let mine = wait(requests(&framed(&broken), 5, None).message());
            match WriteContentRequest::decode(&broken[..]) {
                Ok(expected) => assert_eq!(whole(mine.expect("decode").expect("a message")), expected),
                Err(_) => assert!(mine.is_err(), "byte {place} as {value:#x}"),
            }
        }
    }
}

#[test]
fn a_stream_that_ends_within_a_message_is_an_error_and_a_client_that_gives_up_is_none() {
    let bytes = framed(&example(b"some bytes").encode_to_vec());
    for length in 1..bytes.len() {
        let cut = &bytes[..length];
        assert!(wait(requests(cut, 4, None).message()).is_err(), "cut to {length}");
    }
    let broken = wait(requests(&bytes[..20], 4, Some(Status::unavailable("gone"))).message());
    assert_eq!(broken.expect_err("the connection broke").code(), Code::Unavailable);
    let cancelled = wait(requests(b"", 4, Some(Status::cancelled("enough"))).message());
    assert!(cancelled.expect("no error").is_none());
}

#[test]
fn a_compressed_message_is_refused() {
    let mut bytes = framed(&example(b"some bytes").encode_to_vec());
    bytes[0] = 1;
    assert_eq!(wait(requests(&bytes, 64, None).message()).expect_err("compressed").code(), Code::Internal);
}
