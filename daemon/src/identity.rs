//! Who this daemon is: an identifier that survives restarts (row N03).

use std::{fs, io, path::Path};

use corten_disk::Disk;

/// Where the identifier is, below the root.
const FOLDER: &str = "io.containerd.grpc.v1.introspection";

/// The length of an identifier in text.
const LENGTH: usize = 36;

/// Reads the identifier, or makes one: 36 characters, without a line's end.
///
/// # Errors
/// If it cannot be written.
pub fn uuid(root: &Path, disk: &Disk) -> io::Result<String> {
    let folder = root.join(FOLDER);
    let file = folder.join("uuid");
    match fs::read_to_string(&file) {
        Ok(text) if text.len() == LENGTH => return Ok(text),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let text = random.trim().to_owned();
    disk.create_dir_all(&folder, 0o700)?;
    disk.replace_file(&file, text.as_bytes(), 0o644)?;
    Ok(text)
}

/// The inode of this process's pid namespace; 0 where it cannot be told.
#[must_use]
pub fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| std::os::unix::fs::MetadataExt::ino(&namespace))
}
