//! One block of 512 bytes, seen as a header.

use super::{EntryKind, Time};

pub(crate) const BLOCK_BYTES: usize = 512;

/// Which dialect a header is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Before POSIX: no devices, no prefix.
    V7,
    /// POSIX, with or without PAX extensions.
    Ustar,
    /// POSIX as Schily's star writes it.
    Star,
    /// GNU.
    Gnu,
}

pub(crate) struct Block(pub(crate) [u8; BLOCK_BYTES]);

impl Block {
    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The dialect, or nothing if the checksum is wrong. Old programs summed signed bytes.
    pub(crate) fn format(&self) -> Option<Format> {
        let stated = octal(&self.0[148..156])?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&index) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stated != unsigned && stated != signed {
            return None;
        }
        let (magic, version, trailer) = (&self.0[257..263], &self.0[263..265], &self.0[508..512]);
        Some(match (magic, version) {
            (b"ustar\0", _) if trailer == b"tar\0" => Format::Star,
            (b"ustar\0", _) => Format::Ustar,
            (b"ustar ", b" \0") => Format::Gnu,
            _ => Format::V7,
        })
    }

    pub(crate) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(crate) fn kind(&self) -> EntryKind {
        match self.type_flag() {
            b'0' | 0 => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharacterDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => EntryKind::Other(other),
        }
    }

    pub(crate) fn mode(&self) -> Option<i64> {
        numeric(&self.0[100..108])
    }

    pub(crate) fn uid(&self) -> Option<i64> {
        numeric(&self.0[108..116])
    }

    pub(crate) fn gid(&self) -> Option<i64> {
        numeric(&self.0[116..124])
    }

    pub(crate) fn size(&self) -> Option<i64> {
        numeric(&self.0[124..136])
    }

    pub(crate) fn modified(&self) -> Option<Time> {
        numeric(&self.0[136..148]).map(Time::from_seconds)
    }

    pub(crate) fn link(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    pub(crate) fn device(&self, format: Format) -> Option<(i64, i64)> {
        if format == Format::V7 {
            return Some((0, 0));
        }
        Some((numeric(&self.0[329..337])?, numeric(&self.0[337..345])?))
    }

    /// The time of the last access, which two dialects have. A broken one counts as none: old Go programs wrote a
    /// prefix there.
    pub(crate) fn accessed(&self, format: Format) -> Option<Time> {
        let field = match format {
            Format::Gnu => &self.0[345..357],
            Format::Star => &self.0[476..488],
            Format::V7 | Format::Ustar => return None,
        };
        if field[0] == 0 { None } else { numeric(field).map(Time::from_seconds) }
    }

    pub(crate) fn path(&self, format: Format) -> Vec<u8> {
        let name = text(&self.0[0..100]);
        let prefix = match format {
            Format::Ustar => text(&self.0[345..500]),
            Format::Star => text(&self.0[345..476]),
            Format::Gnu if self.gnu_times_are_a_prefix() => text(&self.0[345..500]),
            Format::Gnu | Format::V7 => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// Go wrote GNU headers with a POSIX prefix until 2017: recognised as Go does, by times that are no numbers.
    fn gnu_times_are_a_prefix(&self) -> bool {
        let broken = |field: &[u8]| field[0] != 0 && numeric(field).is_none();
        (broken(&self.0[345..357]) || broken(&self.0[357..369])) && text(&self.0[345..500]).is_ascii()
    }
}

/// The text up to the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number in octal, or in base 256 with two's complement if the first bit is set.
pub(crate) fn numeric(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    // The bit after the flag is the sign; inverted, a negative number is read like a positive one.
    let invert: u8 = if first & 0x40 == 0 { 0 } else { 0xff };
    let mut value: u64 = 0;
    for (index, byte) in field.iter().enumerate() {
        let mut byte = byte ^ invert;
        if index == 0 {
            byte &= 0x7f;
        }
        if value >> 56 > 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).ok()?;
    Some(if invert == 0 { value } else { !value })
}

/// A number in octal between blanks and NULs; nothing at all counts as zero.
pub(crate) fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_padding(byte)).map_or(start, |last| last + 1);
    let digits = text(&field[start..end]);
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}
