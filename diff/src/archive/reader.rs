//! The reader: entries one after the other, their contents as pieces of the stream's own buffer.

use std::io::{self, BufRead};

use super::{
    ArchiveError, Entry, EntryKind, MAX_EXTENSION_BYTES,
    block::{BLOCK_BYTES, Block, Format, numeric, text},
    pax::{self, Extensions},
    sparse::{self, Extent, PaxLayout},
};

/// A piece of a file's contents.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// That many zeros which need not be stored.
    Hole(u64),
}

/// Reads an archive from a stream, without ever going back.
pub struct Reader<R> {
    source: Counted<R>,
    /// Bytes of the current entry's data that are still in the stream.
    data_bytes: u64,
    /// Bytes that fill the current entry's last block.
    padding_bytes: u64,
    /// Where in the current file the next byte belongs, and how long that file is.
    file_position: u64,
    file_bytes: u64,
    /// The extents of a sparse file that are still to come, the next one last.
    extents: Vec<Extent>,
    is_sparse: bool,
    is_done: bool,
}

/// What long names and extended headers said about the entry to come.
#[derive(Default)]
struct Pending {
    extensions: Extensions,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    /// A reader of the archive that begins where `source` stands.
    pub fn new(source: R) -> Self {
        Self {
            source: Counted { inner: source, position: 0 },
            data_bytes: 0,
            padding_bytes: 0,
            file_position: 0,
            file_bytes: 0,
            extents: Vec::new(),
            is_sparse: false,
            is_done: false,
        }
    }

    /// How many bytes of the stream were read.
    pub fn position_bytes(&self) -> u64 {
        self.source.position
    }

    /// The stream, which stands after the archive's end if that was reached.
    pub fn into_inner(self) -> R {
        self.source.inner
    }

    /// Whether the current entry is a file with holes.
    pub(crate) fn is_sparse(&self) -> bool {
        self.is_sparse
    }

    /// The next entry, or nothing at the end. What was not read of the current one is skipped.
    ///
    /// # Errors
    /// The archive is broken or its stream fails; the reader is of no more use.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        if self.is_done {
            return Ok(None);
        }
        let mut pending = Pending::default();
        loop {
            self.skip_rest()?;
            let Some((block, format)) = self.read_header()? else {
                self.is_done = true;
                return Ok(None);
            };
            let size = block.size().and_then(|size| u64::try_from(size).ok());
            let size = size.ok_or_else(|| self.malformed("a size is no number"))?;
            match block.type_flag() {
                b'x' => {
                    let data = self.read_extension(size)?;
                    pending.extensions = pax::parse(&data).map_err(|reason| self.malformed(reason))?;
                }
                // Defaults for all that follows: ignored (row B10), together with what came before it, as in Go.
                b'g' => {
                    let data = self.read_extension(size)?;
                    pax::parse(&data).map_err(|reason| self.malformed(reason))?;
                    pending = Pending::default();
                }
                b'L' => pending.long_name = self.read_long_text(size)?,
                b'K' => pending.long_link = self.read_long_text(size)?,
                _ => return self.finish_entry(&block, format, size, pending).map(Some),
            }
        }
    }

    /// Hands the contents of the current entry to `take`, from where the last call stopped.
    ///
    /// # Errors
    /// What `take` fails with, or the stream's error.
    pub fn read_contents<E: From<ArchiveError>>(
        &mut self,
        mut take: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(step) = self.next_step() {
            match step {
                Step::Hole(length) => {
                    self.file_position += length;
                    take(Piece::Hole(length))?;
                }
                Step::Data(limit) => {
                    let available = self.source.fill("a file's contents")?;
                    let length =
                        usize::try_from(limit).map_or(available.len(), |limit| limit.min(available.len()));
                    let outcome = take(Piece::Data(&available[..length]));
                    self.source.consume(length);
                    self.data_bytes -= length as u64;
                    self.file_position += length as u64;
                    outcome?;
                }
            }
        }
        Ok(())
    }

    fn next_step(&mut self) -> Option<Step> {
        if !self.is_sparse {
            return (self.data_bytes > 0).then_some(Step::Data(self.data_bytes));
        }
        while let Some(extent) = self.extents.last() {
            if self.file_position < extent.offset_bytes {
                return Some(Step::Hole(extent.offset_bytes - self.file_position));
            }
            let end = extent.offset_bytes + extent.length_bytes;
            if self.file_position < end {
                return Some(Step::Data(end - self.file_position));
            }
            self.extents.pop();
        }
        (self.file_position < self.file_bytes).then_some(Step::Hole(self.file_bytes - self.file_position))
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        self.source.skip(self.data_bytes, "a file's contents")?;
        self.data_bytes = 0;
        // The last block of the last file need not be filled up.
        self.source.skip_to_end(self.padding_bytes)?;
        self.padding_bytes = 0;
        self.extents.clear();
        self.is_sparse = false;
        Ok(())
    }

    /// The next header, or nothing at the end: two empty blocks, or the end of the stream between two entries.
    fn read_header(&mut self) -> Result<Option<(Block, Format)>, ArchiveError> {
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block.is_zero() {
            return match self.read_block()? {
                Some(second) if !second.is_zero() => Err(self.malformed("data follows a lone empty block")),
                _ => Ok(None),
            };
        }
        let format = block.format().ok_or_else(|| self.malformed("a header's checksum is wrong"))?;
        Ok(Some((block, format)))
    }

    fn read_block(&mut self) -> Result<Option<Block>, ArchiveError> {
        if self.source.is_at_end()? {
            return Ok(None);
        }
        let mut block = Block([0; BLOCK_BYTES]);
        self.source.read_exact(&mut block.0, "a header")?;
        Ok(Some(block))
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let length = usize::try_from(size).ok().filter(|length| *length <= MAX_EXTENSION_BYTES);
        let length = length.ok_or_else(|| self.malformed("an extended header has more than 1 MiB"))?;
        self.padding_bytes = padding_of(size);
        let mut data = vec![0; length];
        self.source.read_exact(&mut data, "an extended header")?;
        Ok(data)
    }

    fn read_long_text(&mut self, size: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let data = self.read_extension(size)?;
        let text = text(&data);
        Ok((!text.is_empty()).then(|| text.to_vec()))
    }

    fn finish_entry(
        &mut self,
        block: &Block,
        format: Format,
        size: u64,
        pending: Pending,
    ) -> Result<Entry, ArchiveError> {
        let Pending { extensions, long_name, long_link } = pending;
        let broken = || self.malformed("a number in a header is broken");
        let mode = block.mode().ok_or_else(broken)?;
        let mut entry = Entry {
            kind: block.kind(),
            path: long_name.or(extensions.path).unwrap_or_else(|| block.path(format)),
            link: long_link.or(extensions.link).unwrap_or_else(|| block.link().to_vec()),
            mode: u32::try_from(mode & 0o7777).expect("twelve bits fit"),
            uid: extensions.uid.or(block.uid()).ok_or_else(broken)?,
            gid: extensions.gid.or(block.gid()).ok_or_else(broken)?,
            size_bytes: match extensions.size {
                Some(size) => u64::try_from(size).map_err(|_| self.malformed("a size is negative"))?,
                None => size,
            },
            modified: extensions.modified.or(block.modified()).ok_or_else(broken)?,
            accessed: extensions.accessed.or(block.accessed(format)),
            device: block.device(format).ok_or_else(broken)?,
            xattrs: extensions.xattrs,
        };
        // Before POSIX a directory was a file whose name ends with a slash.
        if block.type_flag() == 0 && entry.path.ends_with(b"/") {
            entry.kind = EntryKind::Directory;
        }
        if i64::try_from(entry.size_bytes).is_err() {
            return Err(self.malformed("a size does not fit into 63 bits"));
        }
        self.data_bytes = if entry.kind.is_header_only() { 0 } else { entry.size_bytes };
        self.padding_bytes = padding_of(self.data_bytes);
        self.file_position = 0;
        self.file_bytes = entry.size_bytes;
        if block.type_flag() == b'S' {
            self.begin_gnu_sparse(block, format, &mut entry)?;
        } else {
            self.begin_pax_sparse(&extensions.sparse, &mut entry)?;
        }
        Ok(entry)
    }

    /// GNU's own sparse files: descriptors in the header and in blocks between header and data.
    fn begin_gnu_sparse(
        &mut self,
        block: &Block,
        format: Format,
        entry: &mut Entry,
    ) -> Result<(), ArchiveError> {
        let broken = "a sparse file's map is broken";
        if format != Format::Gnu {
            return Err(self.malformed(broken));
        }
        let mut extents = Vec::new();
        let size = numeric(&block.0[483..495]).and_then(|size| u64::try_from(size).ok());
        entry.size_bytes = size.ok_or_else(|| self.malformed(broken))?;
        entry.kind = EntryKind::File;
        sparse::read_gnu_descriptors(&block.0[386..482], &mut extents)
            .ok_or_else(|| self.malformed(broken))?;
        let mut is_extended = block.0[482] != 0;
        while is_extended {
            if extents.len() * size_of::<Extent>() > MAX_EXTENSION_BYTES {
                return Err(self.malformed("a sparse file's map has more than 1 MiB"));
            }
            let more = self.read_block()?.ok_or_else(|| self.malformed(broken))?;
            sparse::read_gnu_descriptors(&more.0[..504], &mut extents)
                .ok_or_else(|| self.malformed(broken))?;
            is_extended = more.0[504] != 0;
        }
        self.begin_sparse(extents, entry)
    }

    fn begin_pax_sparse(
        &mut self,
        records: &pax::SparseRecords,
        entry: &mut Entry,
    ) -> Result<(), ArchiveError> {
        let layout = PaxLayout::of(records);
        if layout == PaxLayout::Plain || entry.kind.is_header_only() {
            return Ok(());
        }
        if !records.name.is_empty() {
            entry.path.clone_from(&records.name);
        }
        if let Some(size) = records.size.or(records.real_size) {
            entry.size_bytes = u64::try_from(size).map_err(|_| self.malformed("a size is negative"))?;
        }
        let extents = if layout == PaxLayout::InData {
            self.read_text_map()?
        } else {
            let stated = records.blocks.and_then(|blocks| usize::try_from(blocks).ok());
            if stated.is_some_and(|stated| stated != records.map.len() / 2) {
                return Err(self.malformed("a sparse file's map is broken"));
            }
            let extents = sparse::extents_of_pairs(&records.map);
            extents.ok_or_else(|| self.malformed("a sparse file's map is broken"))?
        };
        self.begin_sparse(extents, entry)
    }

    /// The map of version 1.0: decimal numbers, one a line, in whole blocks before the data.
    fn read_text_map(&mut self) -> Result<Vec<Extent>, ArchiveError> {
        let broken = "a sparse file's map is broken";
        let mut text = Vec::new();
        let mut numbers: Vec<i64> = Vec::new();
        let mut parsed = 0;
        let mut wanted = 1;
        while numbers.len() < wanted {
            if text.len() > MAX_EXTENSION_BYTES || self.data_bytes < BLOCK_BYTES as u64 {
                return Err(self.malformed(broken));
            }
            let block = self.read_block()?.ok_or_else(|| self.malformed(broken))?;
            self.data_bytes -= BLOCK_BYTES as u64;
            text.extend_from_slice(&block.0);
            while numbers.len() < wanted {
                let Some(end) = text[parsed..].iter().position(|byte| *byte == b'\n') else {
                    // No number is that long; looking for its end again and again would take quadratic time.
                    if text.len() - parsed > BLOCK_BYTES {
                        return Err(self.malformed(broken));
                    }
                    break;
                };
                let number = pax::decimal(&text[parsed..parsed + end]).filter(|number| *number >= 0);
                let number = number.ok_or_else(|| self.malformed(broken))?;
                parsed += end + 1;
                if numbers.is_empty() {
                    let pairs = usize::try_from(number).ok().and_then(|pairs| pairs.checked_mul(2));
                    wanted =
                        pairs.and_then(|pairs| pairs.checked_add(1)).ok_or_else(|| self.malformed(broken))?;
                }
                numbers.push(number);
            }
        }
        sparse::extents_of_pairs(&numbers[1..]).ok_or_else(|| self.malformed(broken))
    }

    fn begin_sparse(&mut self, mut extents: Vec<Extent>, entry: &Entry) -> Result<(), ArchiveError> {
        if i64::try_from(entry.size_bytes).is_err()
            || !sparse::are_sound(&extents, entry.size_bytes, self.data_bytes)
        {
            return Err(self.malformed("a sparse file's map does not fit its data"));
        }
        extents.reverse();
        self.extents = extents;
        self.is_sparse = true;
        self.file_bytes = entry.size_bytes;
        Ok(())
    }

    fn malformed(&self, reason: &'static str) -> ArchiveError {
        ArchiveError::Malformed { offset_bytes: self.source.position, reason }
    }
}

enum Step {
    Data(u64),
    Hole(u64),
}

fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK_BYTES as u64
}

/// The stream, with the number of bytes that were taken from it.
struct Counted<R> {
    inner: R,
    position: u64,
}

impl<R: BufRead> Counted<R> {
    fn failed(&self, part: &'static str, source: io::Error) -> ArchiveError {
        let offset_bytes = self.position;
        if source.kind() == io::ErrorKind::UnexpectedEof && source.get_ref().is_none() {
            return ArchiveError::Truncated { offset_bytes, part };
        }
        ArchiveError::Read { offset_bytes, source }
    }

    fn is_at_end(&mut self) -> Result<bool, ArchiveError> {
        loop {
            match self.inner.fill_buf() {
                Ok(available) => return Ok(available.is_empty()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ArchiveError::Read { offset_bytes: self.position, source }),
            }
        }
    }

    /// What the stream has ready, at least one byte.
    fn fill(&mut self, part: &'static str) -> Result<&[u8], ArchiveError> {
        if self.is_at_end()? {
            return Err(ArchiveError::Truncated { offset_bytes: self.position, part });
        }
        let offset_bytes = self.position;
        self.inner.fill_buf().map_err(|source| ArchiveError::Read { offset_bytes, source })
    }

    fn consume(&mut self, length: usize) {
        self.inner.consume(length);
        self.position += length as u64;
    }

    fn read_exact(&mut self, into: &mut [u8], part: &'static str) -> Result<(), ArchiveError> {
        self.inner.read_exact(into).map_err(|source| self.failed(part, source))?;
        self.position += into.len() as u64;
        Ok(())
    }

    fn skip(&mut self, mut length: u64, part: &'static str) -> Result<(), ArchiveError> {
        while length > 0 {
            let available = self.fill(part)?.len();
            let step = usize::try_from(length).map_or(available, |length| length.min(available));
            self.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    fn skip_to_end(&mut self, length: u64) -> Result<(), ArchiveError> {
        let mut rest = length;
        while rest > 0 && !self.is_at_end()? {
            let available = self.fill("a block")?.len();
            let step = usize::try_from(rest).map_or(available, |rest| rest.min(available));
            self.consume(step);
            rest -= step as u64;
        }
        Ok(())
    }
}
