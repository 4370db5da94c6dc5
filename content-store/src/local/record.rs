//! The files beside the data of an ingest: its key, when it began, its final length.
//!
//! They are not synced: nothing that was acknowledged depends on them. What a crash leaves of them may be anything, so
//! everything is checked, and an ingest whose key cannot be read is begun anew.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::SystemTime};

use corten_disk::Disk;

use super::{
    layout::{DATA, KEY, STARTED_AT, TOTAL, UPDATED_AT},
    timestamp,
};
use crate::IngestStatus;

/// The longest file that is read; a key may have 32 KiB.
const MAX_RECORD_BYTES: u64 = 64 << 10;

/// Writes the files of a new ingest into its empty folder.
pub(crate) fn write(
    disk: &Disk,
    folder: &Path,
    key: &str,
    total_bytes: Option<u64>,
    now: SystemTime,
) -> io::Result<()> {
    let moment = timestamp::write(now);
    let total = total_bytes.map(|total| total.to_string());
    let files = [
        (KEY, Some(key)),
        (STARTED_AT, Some(moment.as_str())),
        (UPDATED_AT, Some(moment.as_str())),
        (TOTAL, total.as_deref()),
    ];
    for (name, text) in files {
        if let Some(text) = text {
            disk.create_new(&folder.join(name), 0o644)?.append(text.as_bytes())?;
        }
    }
    Ok(())
}

/// What the files in `folder` say; `None` if they do not make an ingest.
///
/// # Errors
/// Those of reading, except that something is not there.
pub(crate) fn read(folder: &Path) -> io::Result<Option<IngestStatus>> {
    let data = match folder.join(DATA).symlink_metadata() {
        Ok(data) if data.is_file() => data,
        Ok(_) => return Ok(None),
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(key) = read_text(&folder.join(KEY))?.filter(|key| !key.is_empty()) else { return Ok(None) };
    let modified_at = data.modified()?;
    let moment = |name| -> io::Result<Option<SystemTime>> {
        Ok(read_text(&folder.join(name))?.and_then(|text| timestamp::read(&text)))
    };
    let started_at = moment(STARTED_AT)?.unwrap_or(modified_at);
    let updated_at = moment(UPDATED_AT)?.map_or(modified_at, |updated_at| updated_at.max(modified_at));
    let total_bytes = read_text(&folder.join(TOTAL))?.and_then(|text| text.parse().ok());
    Ok(Some(IngestStatus {
        key,
        offset_bytes: data.size(),
        total_bytes,
        expected: None,
        started_at,
        updated_at,
    }))
}

fn read_text(path: &Path) -> io::Result<Option<String>> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() && metadata.size() <= MAX_RECORD_BYTES => {}
        Ok(_) => return Ok(None),
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok()),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
