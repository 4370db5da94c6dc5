//! Sparse files: which parts of a file the archive holds.

use super::{block, pax::SparseRecords};

/// One part of a file that has data; what lies between parts is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset_bytes: u64,
    pub(crate) length_bytes: u64,
}

/// How the records of a PAX header describe a sparse file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PaxLayout {
    /// Not sparse, or in a version that nobody knows: read as it is, like Go does.
    Plain,
    /// The map is in the records (0.0 and 0.1).
    InRecords,
    /// The map is text before the data (1.0).
    InData,
}

impl PaxLayout {
    pub(crate) fn of(records: &SparseRecords) -> Self {
        match (records.major.as_slice(), records.minor.as_slice()) {
            (b"0", b"0" | b"1") => Self::InRecords,
            (b"1", b"0") => Self::InData,
            (b"", b"") if !records.map.is_empty() => Self::InRecords,
            _ => Self::Plain,
        }
    }
}

/// Pairs of offset and length as extents; `None` if they are no pairs or negative.
pub(crate) fn extents_of_pairs(pairs: &[i64]) -> Option<Vec<Extent>> {
    if !pairs.len().is_multiple_of(2) {
        return None;
    }
    pairs.chunks_exact(2).map(|pair| extent(pair[0], pair[1])).collect()
}

/// Reads the descriptors in `area`, 24 bytes each, up to the first that is empty.
pub(crate) fn read_gnu_descriptors(area: &[u8], into: &mut Vec<Extent>) -> Option<()> {
    for descriptor in area.chunks_exact(24) {
        if descriptor[0] == 0 {
            break;
        }
        into.push(extent(block::numeric(&descriptor[..12])?, block::numeric(&descriptor[12..])?)?);
    }
    Some(())
}

fn extent(offset: i64, length: i64) -> Option<Extent> {
    let (offset_bytes, length_bytes) = (u64::try_from(offset).ok()?, u64::try_from(length).ok()?);
    Some(Extent { offset_bytes, length_bytes })
}

/// Whether the extents ascend without overlap, fit into the file, and together have exactly the data there is.
pub(crate) fn are_sound(extents: &[Extent], size_bytes: u64, data_bytes: u64) -> bool {
    let mut end = 0_u64;
    let mut total = 0_u64;
    for extent in extents {
        let Some(next) = extent.offset_bytes.checked_add(extent.length_bytes) else { return false };
        if extent.offset_bytes < end || next > size_bytes {
            return false;
        }
        end = next;
        total += extent.length_bytes;
    }
    total == data_bytes
}
