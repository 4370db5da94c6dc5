//! The writer: POSIX headers with PAX extensions, byte for byte what Go's `archive/tar` makes of the same header, so
//! that a layer has one diff id whoever computed it (row W03).

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{EntryKind, block::BLOCK_BYTES};

const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;

/// What is written about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is. [`EntryKind::Other`] cannot be written.
    pub kind: EntryKind,
    /// Its name: relative, without `.` and `..`; a directory's ends with a slash.
    pub path: Vec<u8>,
    /// What a link points to.
    pub link: Vec<u8>,
    /// Permissions with set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The length of the contents that follow; 0 for everything but files.
    pub size_bytes: u64,
    /// When it was modified, in whole seconds.
    pub modified_seconds: i64,
    /// The major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    /// A header without contents: mode 0755 for directories and 0644 for everything else, owned by root, of 1970.
    pub fn new(kind: EntryKind, path: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            path: path.into(),
            link: Vec::new(),
            mode: if kind == EntryKind::Directory { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            size_bytes: 0,
            modified_seconds: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

/// Writes an archive.
pub struct Writer<W> {
    sink: W,
    /// What is still to come of the current file.
    contents_bytes: u64,
    padding_bytes: usize,
}

impl<W: Write> Writer<W> {
    /// A writer that appends to `sink`, in many small pieces.
    pub fn new(sink: W) -> Self {
        Self { sink, contents_bytes: 0, padding_bytes: 0 }
    }

    /// Begins the next entry.
    ///
    /// # Errors
    /// - `InvalidInput`: the contents of the entry before are incomplete, or the header cannot be written.
    /// - Those of the sink.
    pub fn write_header(&mut self, header: &Header) -> io::Result<()> {
        self.finish_contents()?;
        let records = records_for(header);
        // A long name alone is split in two where POSIX allows that; with any other record it is a record too.
        let split = split_path(&header.path).filter(|_| records.keys().eq([&b"path"[..]]));
        if !records.is_empty() && split.is_none() {
            self.write_extensions(header, &records)?;
        }
        let (prefix, name) = split.unwrap_or((b"", &header.path));
        let mut block = [0_u8; BLOCK_BYTES];
        put_text(&mut block[..NAME_BYTES], &ascii_only(name));
        put_octal(&mut block[100..108], u64::from(header.mode));
        put_octal(&mut block[108..116], u64::from(header.uid));
        put_octal(&mut block[116..124], u64::from(header.gid));
        put_octal(&mut block[124..136], header.size_bytes);
        put_octal(&mut block[136..148], u64::try_from(header.modified_seconds).unwrap_or(u64::MAX));
        block[156] = type_flag(header.kind)?;
        put_text(&mut block[157..257], &ascii_only(&header.link));
        put_octal(&mut block[329..337], u64::from(header.device.0));
        put_octal(&mut block[337..345], u64::from(header.device.1));
        put_text(&mut block[345..500], prefix);
        seal(&mut block);
        self.sink.write_all(&block)?;
        self.contents_bytes = if header.kind == EntryKind::File { header.size_bytes } else { 0 };
        self.padding_bytes = padding_of(self.contents_bytes);
        Ok(())
    }

    /// Appends to the contents of the current entry.
    ///
    /// # Errors
    /// - `InvalidInput`: that is more than the header said.
    /// - Those of the sink.
    pub fn write_contents(&mut self, data: &[u8]) -> io::Result<()> {
        let rest = self.contents_bytes.checked_sub(data.len() as u64);
        self.contents_bytes = rest.ok_or_else(|| invalid("the contents are longer than the header says"))?;
        self.sink.write_all(data)
    }

    /// Writes the end of the archive and gives the sink back.
    ///
    /// # Errors
    /// As [`write_header`](Self::write_header).
    pub fn finish(mut self) -> io::Result<W> {
        self.finish_contents()?;
        self.sink.write_all(&[0; 2 * BLOCK_BYTES])?;
        Ok(self.sink)
    }

    fn finish_contents(&mut self) -> io::Result<()> {
        if self.contents_bytes > 0 {
            return Err(invalid("the contents are shorter than the header says"));
        }
        let padding = std::mem::take(&mut self.padding_bytes);
        self.sink.write_all(&[0; BLOCK_BYTES][..padding])
    }

    fn write_extensions(&mut self, header: &Header, records: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut name = ascii_only(&extensions_name(&header.path));
        name.truncate(NAME_BYTES);
        while name.last() == Some(&b'/') {
            name.pop();
        }
        let mut block = [0_u8; BLOCK_BYTES];
        put_text(&mut block[..NAME_BYTES], &name);
        put_octal(&mut block[100..108], 0);
        put_octal(&mut block[108..116], 0);
        put_octal(&mut block[116..124], 0);
        put_octal(&mut block[124..136], data.len() as u64);
        put_octal(&mut block[136..148], 0);
        block[156] = b'x';
        seal(&mut block);
        self.sink.write_all(&block)?;
        self.sink.write_all(&data)?;
        self.sink.write_all(&[0; BLOCK_BYTES][..padding_of(data.len() as u64)])
    }
}

/// Everything about the file that does not fit into a header's fields.
fn records_for(header: &Header) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    let fits_name = |text: &[u8]| text.is_ascii() && text.len() <= NAME_BYTES;
    if !fits_name(&header.path) {
        records.insert(b"path".to_vec(), header.path.clone());
    }
    if !fits_name(&header.link) {
        records.insert(b"linkpath".to_vec(), header.link.clone());
    }
    for (key, value) in [("uid", header.uid), ("gid", header.gid)] {
        if !fits_octal(8, u64::from(value)) {
            records.insert(key.into(), value.to_string().into());
        }
    }
    if !fits_octal(12, header.size_bytes) {
        records.insert(b"size".to_vec(), header.size_bytes.to_string().into());
    }
    if !u64::try_from(header.modified_seconds).is_ok_and(|seconds| fits_octal(12, seconds)) {
        records.insert(b"mtime".to_vec(), header.modified_seconds.to_string().into());
    }
    for (name, value) in &header.xattrs {
        records.insert([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
    }
    records
}

/// `length key=value\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + body.to_string().len();
    if body + length.to_string().len() != length {
        length = body + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// The name under which programs that do not know extended headers unpack them.
fn extensions_name(path: &[u8]) -> Vec<u8> {
    let cut = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, file) = path.split_at(cut);
    let mut name = [folder, b"PaxHeaders.0"].concat();
    if !file.is_empty() {
        name.push(b'/');
        name.extend_from_slice(file);
    }
    name
}

/// Splits a name that is too long at a slash so that both parts fit, if it can be.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_BYTES || !path.is_ascii() {
        return None;
    }
    let searched = if path.len() > PREFIX_BYTES + 1 {
        &path[..=PREFIX_BYTES]
    } else {
        path.strip_suffix(b"/").unwrap_or(path)
    };
    let slash = searched.iter().rposition(|byte| *byte == b'/')?;
    let name = &path[slash + 1..];
    if slash == 0 || name.is_empty() || name.len() > NAME_BYTES { None } else { Some((&path[..slash], name)) }
}

fn type_flag(kind: EntryKind) -> io::Result<u8> {
    Ok(match kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharacterDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
        EntryKind::Other(_) => return Err(invalid("an entry of an unknown kind cannot be written")),
    })
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if let Some(after) = field.get_mut(length) {
        *after = 0;
    }
    // A file whose name is cut behind a slash would be taken for a directory.
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let end = field.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        field[end] = 0;
    }
}

/// Writes a number that fits; what does not fit has a record, and zero here.
fn put_octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let value = if fits_octal(field.len(), value) { value } else { 0 };
    put_text(field, format!("{value:0width$o}").as_bytes());
}

fn fits_octal(field_bytes: usize, value: u64) -> bool {
    value < 1 << ((field_bytes - 1) * 3)
}

fn ascii_only(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Adds magic, version and checksum.
fn seal(block: &mut [u8; BLOCK_BYTES]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    put_octal(&mut block[148..155], sum);
}

fn padding_of(length: u64) -> usize {
    (length.wrapping_neg() % BLOCK_BYTES as u64) as usize
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
