//! Messages taken from the wire without copying their data.
//!
//! tonic puts a message together before it decodes it. Nearly all of a write is the field `data`, which the store takes in
//! pieces: here that field stays in the pieces in which it arrived, and the rest of the message, a few bytes, goes to prost.
//! The store hears of each piece as it arrives ([`foresight`]).

mod foresight;

use std::{collections::VecDeque, fmt, future::poll_fn, pin::Pin};

use bytes::{Buf, BufMut, Bytes};
use corten_api::containerd::services::content::v1::WriteContentRequest;
use corten_content_store::Announcer;
use http_body::Body as _;
use prost::{Message as _, decode_length_delimiter, encode_length_delimiter};
use tonic::{Code, Status, Streaming};

use self::foresight::Foresight;
use crate::transport::GrpcBody;

/// One byte for the compression, four for the length.
const PREFIX_BYTES: usize = 5;

/// The number of the field `data`.
const DATA: usize = 6;

// How a field is encoded: the lowest bits of its key.
const WIRE_TYPE_BITS: usize = 3;
const VARINT: usize = 0;
const FIXED_64: usize = 1;
const DELIMITED: usize = 2;
const FIXED_32: usize = 5;

/// A message: what it says, and its data, which `head` does not have.
#[derive(Debug, Default)]
pub(super) struct WriteMessage {
    pub(super) head: WriteContentRequest,
    pub(super) data: Vec<Bytes>,
}

/// The messages that a client sends in one call.
pub(super) enum Requests {
    /// Not looked at yet.
    Raw(RawRequests),
    /// tonic decodes them.
    Decoded(Box<Streaming<WriteContentRequest>>),
}

impl Requests {
    pub(super) fn raw(body: GrpcBody) -> Self {
        Self::Raw(RawRequests::new(body))
    }

    /// From now on `announcer` hears of data before its message is whole.
    pub(super) fn announce_to(&mut self, announcer: Option<Box<dyn Announcer>>) {
        if let Self::Raw(requests) = self {
            requests.announcer = announcer;
        }
    }

    /// The next message; `None` when the client has ended its side.
    pub(super) async fn message(&mut self) -> Result<Option<WriteMessage>, Status> {
        match self {
            Self::Raw(requests) => requests.message().await?.map(decode).transpose(),
            Self::Decoded(requests) => Ok(requests.message().await?.map(|mut head| {
                let data = std::mem::take(&mut head.data);
                WriteMessage { head, data: if data.is_empty() { Vec::new() } else { vec![data] } }
            })),
        }
    }
}

/// Messages that are still a body. Its limits were checked below (X02).
pub(super) struct RawRequests {
    body: GrpcBody,
    arrived: Pieces,
    /// The length of the message whose first bytes were taken.
    length: Option<usize>,
    announcer: Option<Box<dyn Announcer>>,
    /// What is foreseen of the message whose first bytes were taken.
    foresight: Foresight,
}

impl RawRequests {
    fn new(body: GrpcBody) -> Self {
        let (arrived, foresight) = (Pieces::default(), Foresight::default());
        Self { body, arrived, length: None, announcer: None, foresight }
    }

    /// The next message. A call that is given up loses nothing: the next one goes on.
    async fn message(&mut self) -> Result<Option<Pieces>, Status> {
        if self.length.is_none() {
            if !self.arrive(PREFIX_BYTES).await? {
                return if self.arrived.has_remaining() { Err(cut()) } else { Ok(None) };
            }
            if self.arrived.get_u8() != 0 {
                return Err(Status::internal("a compressed message in a call that does not compress"));
            }
            self.length = Some(self.arrived.get_u32() as usize);
        }
        let length = self.length.unwrap_or_default();
        if !self.arrive(length).await? {
            return Err(cut());
        }
        self.length = None;
        self.foresight = Foresight::default();
        Ok(Some(self.arrived.split_to(length).into()))
    }

    /// Waits until `length` bytes are there; says whether they came before the end.
    async fn arrive(&mut self, length: usize) -> Result<bool, Status> {
        loop {
            if self.length.is_some()
                && let Some(announcer) = &self.announcer
            {
                self.foresight.look(&self.arrived.pieces, length, &**announcer);
            }
            if self.arrived.length >= length {
                return Ok(true);
            }
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            match frame {
                None => return Ok(false),
                // The client gave up, and nobody waits for an answer.
                Some(Err(status)) if status.code() == Code::Cancelled => {
                    self.arrived = Pieces::default();
                    return Ok(false);
                }
                Some(Err(status)) => return Err(status),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.arrived.push(piece);
                    }
                }
            }
        }
    }
}

/// The one message of a call that has only one.
pub(super) async fn only<T: prost::Message + Default>(body: GrpcBody) -> Result<T, Status> {
    match RawRequests::new(body).message().await? {
        Some(message) => T::decode(message).map_err(broken),
        None => Err(Status::internal("a call without its message")),
    }
}

fn cut() -> Status {
    Status::internal("the client's stream ended within a message")
}

/// Decodes a whole message.
fn decode(mut message: Pieces) -> Result<WriteMessage, Status> {
    let (mut rest, mut data) = (Vec::new(), Vec::new());
    while message.has_remaining() {
        let key = number(&mut message)?;
        if key == DATA << WIRE_TYPE_BITS | DELIMITED {
            // A field that comes twice counts as it came last.
            let length = number(&mut message)?;
            data = message.split_to(within(length, &message)?);
            continue;
        }
        put_number(key, &mut rest);
        let length = match key & ((1 << WIRE_TYPE_BITS) - 1) {
            VARINT => {
                put_number(number(&mut message)?, &mut rest);
                0
            }
            FIXED_64 => 8,
            FIXED_32 => 4,
            DELIMITED => {
                let length = number(&mut message)?;
                put_number(length, &mut rest);
                length
            }
            // A group, which this message never had: prost says what is wrong with it.
            _ => message.remaining(),
        };
        let length = within(length, &message)?;
        rest.put((&mut message).take(length));
    }
    Ok(WriteMessage { head: WriteContentRequest::decode(&rest[..]).map_err(broken)?, data })
}

fn number(message: &mut Pieces) -> Result<usize, Status> {
    decode_length_delimiter(message).map_err(broken)
}

fn put_number(number: usize, result: &mut Vec<u8>) {
    encode_length_delimiter(number, result).expect("a vector grows");
}

/// `length`, if the message goes on for so long.
fn within(length: usize, message: &Pieces) -> Result<usize, Status> {
    if length <= message.remaining() { Ok(length) } else { Err(broken("a field is cut")) }
}

fn broken(what: impl fmt::Display) -> Status {
    Status::internal(format!("cannot decode a message: {what}"))
}

/// Bytes in the pieces in which they came.
#[derive(Debug, Default)]
struct Pieces {
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Takes the first `length` bytes, which must be there.
    fn split_to(&mut self, length: usize) -> Vec<Bytes> {
        let mut taken = Vec::with_capacity(self.pieces.len());
        let mut left = length;
        while left > 0 {
            let mut piece = self.pieces.pop_front().expect("the caller counted the bytes");
            if piece.len() > left {
                self.pieces.push_front(piece.split_off(left));
            }
            left -= piece.len();
            taken.push(piece);
        }
        self.length -= length;
        taken
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Self {
        let length = pieces.iter().map(Bytes::len).sum();
        Self { pieces: pieces.into(), length }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, count: usize) {
        drop(self.split_to(count));
    }
}

#[cfg(test)]
mod tests;
