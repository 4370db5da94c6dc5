//! What the runtime wrote to its JSON log (row H45).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use serde::Deserialize;

/// How much of a log is read for one failure.
const MAX_LOG_BYTES: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// Where the log ends now. A log that does not exist yet ends at zero.
pub(crate) fn end(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// The last error that was written after `start`. `None` if there is none.
///
/// Looking only behind `start` keeps the message of an earlier failure out of this one's.
pub(crate) fn last_error(path: &Path, start: u64) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // A log that was truncated meanwhile is new as a whole.
    let start = if length < start { 0 } else { start };
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(MAX_LOG_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok())
        .rfind(|line| line.level == "error")
        .map(|line| line.msg.trim().to_owned())
        .filter(|message| !message.is_empty()))
}

#[cfg(test)]
#[path = "log/tests.rs"]
mod tests;
