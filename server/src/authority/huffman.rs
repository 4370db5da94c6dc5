//! HPACK's Huffman code (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: the lengths say everything, and a code is found by comparing it with the first one of the next
//! length.

/// How many bits each byte's code has.
#[rustfmt::skip]
const CODE_BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code, which is that of the end of a string.
const MAX_BITS: usize = 30;

/// The most bits that may fill up the last byte, all of them set.
const MAX_PADDING_BITS: u32 = 7;

/// The bytes, ordered by the length of their codes and then by value: the order of their codes.
const ORDERED: [u8; 256] = ordered();

/// For each length, the first code that is longer, as the upper bits of 32; and which place in [`ORDERED`] belongs to
/// the first code of the length.
const LENGTHS: [(u32, u32, u16); MAX_BITS + 1] = lengths();

const fn ordered() -> [u8; 256] {
    let mut result = [0; 256];
    let (mut bits, mut place) = (0, 0);
    while bits <= MAX_BITS {
        let mut byte = 0;
        while byte < 256 {
            if CODE_BITS[byte] as usize == bits {
                result[place] = byte as u8;
                place += 1;
            }
            byte += 1;
        }
        bits += 1;
    }
    result
}

/// Per length: its first code, the code after its last, both as the upper bits of 32, and the place of the first.
const fn lengths() -> [(u32, u32, u16); MAX_BITS + 1] {
    let mut result = [(0, 0, 0); MAX_BITS + 1];
    let (mut bits, mut place, mut next) = (1, 0, 0u32);
    while bits <= MAX_BITS {
        let first = next;
        let first_place = place;
        let mut byte = 0;
        while byte < 256 {
            if CODE_BITS[byte] as usize == bits {
                next += 1 << (32 - bits);
                place += 1;
            }
            byte += 1;
        }
        result[bits] = (first, next, first_place);
        bits += 1;
    }
    result
}

/// Appends the decoded bytes to `result`. `None` if `encoded` is not the code of any bytes.
pub(super) fn decode(encoded: &[u8], result: &mut Vec<u8>) -> Option<()> {
    let mut input = encoded.iter();
    // The bits that are not decoded yet are the upper ones.
    let (mut window, mut available): (u64, u32) = (0, 0);
    loop {
        while available <= 56
            && let Some(byte) = input.next()
        {
            window |= u64::from(*byte) << (56 - available);
            available += 8;
        }
        let upper = u32::try_from(window >> 32).ok()?;
        let found =
            (5..=MAX_BITS).find(|bits| upper < LENGTHS[*bits].1 && LENGTHS[*bits].0 < LENGTHS[*bits].1);
        match found {
            Some(bits) if bits as u32 <= available => {
                let (first, _, place) = LENGTHS[bits];
                let offset = (upper - first) >> (32 - bits);
                result.push(ORDERED[usize::from(place) + offset as usize]);
                window <<= bits;
                available -= bits as u32;
            }
            _ => {
                // Less than a code is left: only padding, which is the beginning of the end's code, all ones.
                let padding = window == u64::MAX.checked_shl(64 - available).unwrap_or(0);
                return (available <= MAX_PADDING_BITS && padding).then_some(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
