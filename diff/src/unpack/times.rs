//! The times of directories, which are set when nothing more is put into them (row B14).

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom, Write},
};

use rustix::fs::{self, Mode, OFlags};

use super::{UnpackError, attributes::timestamps, root::Root};
use crate::archive::Time;

/// How much is kept in memory before it goes to a file without a name in the target's filesystem.
const MEMORY_BYTES: usize = 4 << 20;

/// How much is kept in memory where there can be no such file.
const MAX_MEMORY_BYTES: usize = 48 << 20;

/// A list that is replayed at the end: the last time of a directory counts.
#[derive(Default)]
pub(crate) struct DirectoryTimes {
    log: Vec<u8>,
    spilled: Option<File>,
    cannot_spill: bool,
}

impl DirectoryTimes {
    pub(crate) fn push(
        &mut self,
        root: &Root,
        path: &[u8],
        (accessed, modified): (Time, Time),
    ) -> Result<(), UnpackError> {
        let length = u32::try_from(path.len()).expect("names are shorter than an extended header");
        self.log.extend_from_slice(&length.to_le_bytes());
        for time in [accessed, modified] {
            self.log.extend_from_slice(&time.seconds.to_le_bytes());
            self.log.extend_from_slice(&time.nanoseconds.to_le_bytes());
        }
        self.log.extend_from_slice(path);
        if self.log.len() > MEMORY_BYTES && !self.cannot_spill {
            self.spill(root)?;
        }
        if self.log.len() > MAX_MEMORY_BYTES {
            let what = "of memory for the times of its directories";
            return Err(UnpackError::TooLarge { limit: MAX_MEMORY_BYTES as u64, what });
        }
        Ok(())
    }

    fn spill(&mut self, root: &Root) -> Result<(), UnpackError> {
        if self.spilled.is_none() {
            let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
            match fs::openat(root, c".", flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => self.spilled = Some(file.into()),
                Err(_) => {
                    self.cannot_spill = true;
                    return Ok(());
                }
            }
        }
        if let Some(file) = &mut self.spilled {
            file.write_all(&self.log).map_err(kept)?;
        }
        self.log.clear();
        Ok(())
    }

    /// Sets them all.
    pub(crate) fn replay(self, root: &Root) -> Result<(), UnpackError> {
        if let Some(mut file) = self.spilled {
            file.seek(SeekFrom::Start(0)).map_err(kept)?;
            replay_from(&mut BufReader::new(file), root)?;
        }
        replay_from(&mut &self.log[..], root)
    }
}

fn kept(source: std::io::Error) -> UnpackError {
    UnpackError::System { doing: "keep the times of directories of", path: "/".into(), source }
}

fn replay_from(log: &mut impl Read, root: &Root) -> Result<(), UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut path = Vec::new();
    loop {
        let mut length = [0; 4];
        match log.read_exact(&mut length) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            outcome => outcome.map_err(kept)?,
        }
        let mut times = [Time::default(); 2];
        for time in &mut times {
            let (mut seconds, mut nanoseconds) = ([0; 8], [0; 4]);
            log.read_exact(&mut seconds).and_then(|()| log.read_exact(&mut nanoseconds)).map_err(kept)?;
            time.seconds = i64::from_le_bytes(seconds);
            time.nanoseconds = u32::from_le_bytes(nanoseconds);
        }
        path.resize(u32::from_le_bytes(length) as usize, 0);
        log.read_exact(&mut path).map_err(kept)?;
        // What cannot be opened any more was replaced by a later entry, or has a path that no program can use.
        let Ok(directory) = root.open_exact(&path, flags) else { continue };
        let failed = || UnpackError::system("set the times of", &path);
        fs::futimens(&directory, &timestamps(times[0], times[1])).map_err(failed())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_times_go_to_a_file_and_the_last_of_a_directory_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        let mut times = DirectoryTimes::default();
        let long = vec![b'x'; 4000];
        for second in 0..3000 {
            let time = Time::from_seconds(second);
            times.push(&root, b"d", (time, time)).unwrap();
            times.push(&root, &long, (time, time)).unwrap();
        }
        assert!(times.log.len() <= MEMORY_BYTES);
        assert!(times.spilled.is_some() || times.cannot_spill);
        times.replay(&root).unwrap();
        let modified = std::fs::metadata(folder.path().join("d")).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 2999);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
