//! Header blocks (HPACK, RFC 7541): decoding with the client's dynamic table, encoding without any.
//!
//! What is encoded uses only the static table and literals that are not indexed, so it can follow blocks that were
//! passed on as they came: the reader's dynamic table then holds entries that nobody refers to any more.

use std::collections::VecDeque;

use super::{huffman, static_table::STATIC_TABLE};

/// The dynamic table's limit that every connection begins with, and that the server never changes.
const TABLE_SIZE_BYTES: usize = 4096;

/// What an entry counts beside its name and value (RFC 7541, section 4.1).
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// The longest integer that is taken, in bytes after the first. Larger ones have no use in a header block.
const MAX_INTEGER_BYTES: usize = 4;

/// Why a header block cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HpackError {
    /// The block ends inside a field.
    #[error("header block ends in the middle of a field")]
    Truncated,
    /// An integer has more bytes than any that could mean something.
    #[error("header block holds an integer that is too long")]
    IntegerTooLong,
    /// A Huffman string that is none.
    #[error("header block holds a broken Huffman string")]
    Huffman,
    /// An index that no entry has.
    #[error("header block refers to an entry that does not exist")]
    Index,
    /// A table larger than was allowed.
    #[error("header block asks for a table that is too large")]
    TableSize,
    /// The decoded fields pass the limit.
    #[error("header block decodes to more than {MAX_DECODED_BYTES} bytes")]
    TooLarge,
}

/// How much a header block may decode to, in bytes: names and values with [`ENTRY_OVERHEAD_BYTES`] each. A short block can
/// name a long entry of the table many times.
pub(super) const MAX_DECODED_BYTES: usize = 256 << 10;

/// A field of a header block.
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// It must not be kept in any table.
    pub(super) never_indexed: bool,
}

/// A name and a value.
type Entry = (Box<[u8]>, Box<[u8]>);

/// Reads header blocks of one connection, one after the other.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest entry first.
    entries: VecDeque<Entry>,
    size_bytes: usize,
    limit_bytes: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size_bytes: 0,
            limit_bytes: TABLE_SIZE_BYTES,
            name: Vec::new(),
            value: Vec::new(),
        }
    }
}

impl Decoder {
    /// Hands every field of `block` to `each`, in order.
    pub(super) fn decode(&mut self, block: &[u8], mut each: impl FnMut(Field<'_>)) -> Result<(), HpackError> {
        let mut input = Input(block);
        let mut decoded_bytes = 0;
        while let Some(first) = input.0.first().copied() {
            let never_indexed = first & 0xf0 == 0x10;
            let indexed = first & 0x80 != 0;
            let remembered = first & 0xc0 == 0x40;
            if !indexed && first & 0xe0 == 0x20 {
                self.resize(input.integer(5)?)?;
                continue;
            }
            let name_index = input.integer(if indexed {
                7
            } else if remembered {
                6
            } else {
                4
            })?;
            // The buffers are moved out so that the table can be looked at meanwhile; they keep their capacity.
            let (mut name, mut value) = (std::mem::take(&mut self.name), std::mem::take(&mut self.value));
            name.clear();
            value.clear();
            if indexed || name_index != 0 {
                let (entry_name, entry_value) = self.entry(name_index)?;
                name.extend_from_slice(entry_name);
                if indexed {
                    value.extend_from_slice(entry_value);
                }
            } else {
                input.string(&mut name)?;
            }
            if !indexed {
                input.string(&mut value)?;
            }
            decoded_bytes += name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
            if decoded_bytes > MAX_DECODED_BYTES {
                return Err(HpackError::TooLarge);
            }
            if remembered {
                self.remember(&name, &value);
            }
            each(Field { name: &name, value: &value, never_indexed });
            (self.name, self.value) = (name, value);
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let place = index.checked_sub(1).ok_or(HpackError::Index)?;
        if let Some(entry) = STATIC_TABLE.get(place) {
            return Ok(*entry);
        }
        let entry = self.entries.get(place - STATIC_TABLE.len()).ok_or(HpackError::Index)?;
        Ok((&entry.0, &entry.1))
    }

    fn remember(&mut self, name: &[u8], value: &[u8]) {
        let entry_bytes = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.evict(entry_bytes);
        if entry_bytes <= self.limit_bytes {
            self.size_bytes += entry_bytes;
            self.entries.push_front((name.into(), value.into()));
        }
    }

    fn resize(&mut self, limit_bytes: usize) -> Result<(), HpackError> {
        if limit_bytes > TABLE_SIZE_BYTES {
            return Err(HpackError::TableSize);
        }
        self.limit_bytes = limit_bytes;
        self.evict(0);
        Ok(())
    }

    /// Drops the oldest entries until `more_bytes` fit, or none is left.
    fn evict(&mut self, more_bytes: usize) {
        while self.size_bytes + more_bytes > self.limit_bytes {
            let Some((name, value)) = self.entries.pop_back() else { break };
            self.size_bytes -= name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        }
    }
}

/// Appends a field to a block, as a literal that is not indexed or a reference to the static table.
pub(super) fn encode(field: &Field<'_>, block: &mut Vec<u8>) {
    if !field.never_indexed
        && let Some(place) =
            STATIC_TABLE.iter().position(|entry| *entry == (field.name, field.value) && !entry.1.is_empty())
    {
        integer(place + 1, 7, 0x80, block);
        return;
    }
    let kind = if field.never_indexed { 0x10 } else { 0 };
    match STATIC_TABLE.iter().position(|entry| entry.0 == field.name) {
        Some(place) => integer(place + 1, 4, kind, block),
        None => {
            block.push(kind);
            string(field.name, block);
        }
    }
    string(field.value, block);
}

fn integer(value: usize, prefix_bits: u32, kind: u8, block: &mut Vec<u8>) {
    let most = (1usize << prefix_bits) - 1;
    if value < most {
        block.push(kind | low_byte(value));
        return;
    }
    block.push(kind | low_byte(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(0x80 | low_byte(rest & 0x7f));
        rest >>= 7;
    }
    block.push(low_byte(rest));
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

fn string(text: &[u8], block: &mut Vec<u8>) {
    integer(text.len(), 7, 0, block);
    block.extend_from_slice(text);
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, HpackError> {
        let (first, rest) = self.0.split_first().ok_or(HpackError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn integer(&mut self, prefix_bits: u32) -> Result<usize, HpackError> {
        let most = (1usize << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for place in 0..MAX_INTEGER_BYTES {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::IntegerTooLong)
    }

    fn string(&mut self, result: &mut Vec<u8>) -> Result<(), HpackError> {
        let huffman_coded = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(HpackError::Truncated)?;
        self.0 = rest;
        if huffman_coded {
            huffman::decode(text, result).ok_or(HpackError::Huffman)
        } else {
            result.extend_from_slice(text);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
