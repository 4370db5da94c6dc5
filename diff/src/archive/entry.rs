//! What an archive says about one file.

/// A time as archives keep it: seconds since 1970, and nanoseconds that count forward from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 10^9.
    pub nanoseconds: u32,
}

impl Time {
    /// A time with whole seconds.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    /// The time that is written to disk: what lies before 1970, or after what 63 bits of nanoseconds reach, becomes
    /// 1970 (row B14).
    #[must_use]
    pub fn bounded(self) -> Self {
        const LAST_SECOND: i64 = i64::MAX / 1_000_000_000;
        const LAST_NANOSECOND: u32 = (i64::MAX % 1_000_000_000) as u32;
        let last = Self { seconds: LAST_SECOND, nanoseconds: LAST_NANOSECOND };
        if self.seconds < 0 || self > last { Self::default() } else { self }
    }
}

/// What an entry becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with contents.
    File,
    /// One more name for a file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A type flag that layers do not have.
    Other(u8),
}

impl EntryKind {
    /// Whether entries of this kind have no data in the archive, whatever size their header states.
    pub(crate) fn is_header_only(self) -> bool {
        !matches!(self, Self::File | Self::Other(_))
    }
}

/// One entry, with every extension applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it becomes.
    pub kind: EntryKind,
    /// Its name, as the archive spells it.
    pub path: Vec<u8>,
    /// What a link points to, as the archive spells it.
    pub link: Vec<u8>,
    /// Permissions with set-id and sticky bits; nothing else.
    pub mode: u32,
    /// The owner. Any number: the archive is not to be trusted.
    pub uid: i64,
    /// The group. Any number.
    pub gid: i64,
    /// The number of bytes that the file will have, holes included.
    pub size_bytes: u64,
    /// When it was modified.
    pub modified: Time,
    /// When it was last read, if the archive says so.
    pub accessed: Option<Time>,
    /// The major and minor number of a device. Any numbers.
    pub device: (i64, i64),
    /// Extended attributes: names and values, in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}
