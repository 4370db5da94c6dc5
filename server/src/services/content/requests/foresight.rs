//! Finds the data of a message that has not arrived whole yet.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use corten_api::containerd::services::content::v1::WriteAction;
use corten_content_store::Announcer;
use prost::decode_length_delimiter;

use super::{DATA, DELIMITED, FIXED_32, FIXED_64, VARINT, WIRE_TYPE_BITS};

/// The number of the field `action`.
const ACTION: usize = 1;

/// What it says of a message whose data is written.
const WRITING: [usize; 2] = [WriteAction::Write as usize, WriteAction::Commit as usize];

/// What is known of a message of which only the beginning is there. It is a guess: what a message means is decided when it is
/// whole.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    /// Where the data is, from the beginning of the message.
    data: Option<Range<usize>>,
    /// How many pieces were looked at, and how many bytes they are.
    seen_pieces: usize,
    seen_bytes: usize,
}

impl Foresight {
    /// Announces what has arrived of the data since the last time. `pieces` is what there is of the message, and perhaps more;
    /// it has `length` bytes in all.
    pub(super) fn look(&mut self, pieces: &VecDeque<Bytes>, length: usize, announcer: &dyn Announcer) {
        if self.seen_pieces == 0 {
            // The fields before the data are in the first piece nearly always; otherwise nothing is announced.
            let Some(first) = pieces.front() else { return };
            self.data = data_range(first).filter(|data| data.end <= length);
        }
        let begin = self.seen_pieces.min(pieces.len());
        for piece in pieces.range(begin..) {
            let begin = self.seen_bytes;
            let end = begin + piece.len();
            (self.seen_pieces, self.seen_bytes) = (self.seen_pieces + 1, end);
            let Some(data) = &self.data else { continue };
            let (from, to) = (data.start.max(begin), data.end.min(end));
            if from < to {
                announcer.announce(piece.slice(from - begin..to - begin));
            }
        }
    }
}

/// Where the data is in a message that writes and begins with `first`; `None` if that does not tell.
fn data_range(first: &[u8]) -> Option<Range<usize>> {
    let mut rest = first;
    let mut writes = false;
    loop {
        let key = decode_length_delimiter(&mut rest).ok()?;
        if key == DATA << WIRE_TYPE_BITS | DELIMITED {
            let length = decode_length_delimiter(&mut rest).ok()?;
            let begin = first.len() - rest.len();
            return writes.then(|| begin..begin.saturating_add(length));
        }
        let skipped = match key & ((1 << WIRE_TYPE_BITS) - 1) {
            VARINT => {
                let number = decode_length_delimiter(&mut rest).ok()?;
                if key >> WIRE_TYPE_BITS == ACTION {
                    writes = WRITING.contains(&number);
                }
                0
            }
            FIXED_64 => 8,
            FIXED_32 => 4,
            DELIMITED => decode_length_delimiter(&mut rest).ok()?,
            _ => return None,
        };
        rest = rest.get(skipped..)?;
    }
}
