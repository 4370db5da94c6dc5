//! Entries as bytes.

use super::Entry;

const FOLDER: u8 = 1;
const FILE: u8 = 2;
const HARD_LINK: u8 = 3;
const SYMLINK: u8 = 4;
const FIFO: u8 = 5;
const SOCKET: u8 = 6;
const CHARACTER_DEVICE: u8 = 7;
const BLOCK_DEVICE: u8 = 8;

/// Only while a manifest is made: what is at the path, and below it, goes.
pub(super) const REMOVAL: u8 = 0;

/// Appends `number` in as few bytes as it needs, seven bits a byte, the lowest first.
pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Takes a number off the front of `bytes`; `None` if there is no whole one.
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        let shift = u32::try_from(index * 7).ok()?;
        let shifted = part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        number |= shifted;
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(number);
        }
    }
    None
}

/// Appends what is known of an entry, without its path.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: Entry<'_>) {
    match entry {
        Entry::Folder => out.push(FOLDER),
        Entry::File { size_bytes, checksum } => {
            out.push(FILE);
            put_number(out, size_bytes);
            out.extend_from_slice(&checksum.to_le_bytes());
        }
        Entry::HardLink { target } => {
            out.push(HARD_LINK);
            put_number(out, target.len() as u64);
            out.extend_from_slice(target);
        }
        Entry::Symlink { length_bytes, checksum } => {
            out.push(SYMLINK);
            put_number(out, length_bytes);
            out.extend_from_slice(&checksum.to_le_bytes());
        }
        Entry::Fifo => out.push(FIFO),
        Entry::Socket => out.push(SOCKET),
        Entry::CharacterDevice { device } => {
            out.push(CHARACTER_DEVICE);
            put_number(out, device);
        }
        Entry::BlockDevice { device } => {
            out.push(BLOCK_DEVICE);
            put_number(out, device);
        }
    }
}

/// Takes an entry off the front of `bytes`; `None` if there is no whole one.
pub(super) fn take_entry<'a>(bytes: &mut &'a [u8]) -> Option<Entry<'a>> {
    let kind = take(bytes, 1)?[0];
    Some(match kind {
        FOLDER => Entry::Folder,
        FILE => Entry::File { size_bytes: take_number(bytes)?, checksum: take_checksum(bytes)? },
        HARD_LINK => {
            let length = usize::try_from(take_number(bytes)?).ok()?;
            Entry::HardLink { target: take(bytes, length)? }
        }
        SYMLINK => Entry::Symlink { length_bytes: take_number(bytes)?, checksum: take_checksum(bytes)? },
        FIFO => Entry::Fifo,
        SOCKET => Entry::Socket,
        CHARACTER_DEVICE => Entry::CharacterDevice { device: take_number(bytes)? },
        BLOCK_DEVICE => Entry::BlockDevice { device: take_number(bytes)? },
        _ => return None,
    })
}

/// Whether the bytes of an entry are those of a folder.
pub(super) fn is_folder(body: &[u8]) -> bool {
    body.first() == Some(&FOLDER)
}

/// Takes `length` bytes off the front.
pub(super) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_checksum(bytes: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))
}

/// Paths are compared as if a slash came before every other byte, which is the order of a walk: a folder, what is in
/// it, its next neighbour. Inside, the slash is a zero byte, which no name has.
pub(super) fn to_sorted(path: &mut [u8]) {
    path.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = 0);
}

/// The way back from [`to_sorted`].
pub(super) fn to_path(sorted: &mut [u8]) {
    sorted.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
}

/// Whether `path` lies below `folder`; both as [`to_sorted`] has them.
pub(super) fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.len() > folder.len() && path.starts_with(folder) && path[folder.len()] == 0
}

/// Whether a path is one that a manifest takes: relative, without empty parts, dots and zero bytes.
pub(super) fn is_plain(path: &[u8]) -> bool {
    path.len() <= super::PATH_LIMIT_BYTES
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(|part| !part.is_empty() && part != b"." && part != b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_entries_come_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut rest = bytes.as_slice();
            assert_eq!((take_number(&mut rest), rest), (Some(number), [].as_slice()));
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_number(&mut [0xff; 10].as_slice()), None, "more than 64 bits");
        for entry in [
            Entry::Folder,
            Entry::File { size_bytes: 1 << 40, checksum: 7 },
            Entry::HardLink { target: b"a/b" },
            Entry::symlink(b"../x"),
            Entry::Fifo,
            Entry::Socket,
            Entry::CharacterDevice { device: 0 },
            Entry::BlockDevice { device: u64::MAX },
        ] {
            let mut bytes = Vec::new();
            put_entry(&mut bytes, entry);
            let mut rest = bytes.as_slice();
            assert_eq!((take_entry(&mut rest), rest), (Some(entry), [].as_slice()));
            assert_eq!(take_entry(&mut &bytes[..bytes.len() - 1]), None, "{entry:?}");
        }
        assert_eq!(take_entry(&mut [99].as_slice()), None);
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in ["", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "a/../b", "a\0b"] {
            assert!(!is_plain(path.as_bytes()), "{path:?}");
        }
        for path in ["a", "a/b", "...", ".a/..b"] {
            assert!(is_plain(path.as_bytes()), "{path:?}");
        }
        assert!(is_plain(&[b'x'; super::super::PATH_LIMIT_BYTES]));
        assert!(!is_plain(&[b'x'; super::super::PATH_LIMIT_BYTES + 1]));
    }
}
