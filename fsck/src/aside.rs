//! Where damaged things go: nothing is deleted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use corten_disk::Disk;
use corten_types::{Error, Result};

/// How the folders are called that damaged things are moved to.
const PREFIX: &str = "set-aside-";

/// Rows that were dropped, one a line.
const ROWS: &str = "rows.jsonl";

/// Whether something of this name was set aside, by a repair or by the database.
pub(crate) fn is_aside(name: &str) -> bool {
    let is_part = ["-wal", "-journal", ".salvaged"].iter().any(|end| name.ends_with(end));
    name.starts_with(PREFIX) || (name.contains(".damaged-") && !is_part)
}

/// The folders of one repair, one below each root, made when they are needed.
#[derive(Debug)]
pub(crate) struct Aside {
    disk: Disk,
    date: String,
    folders: BTreeMap<PathBuf, PathBuf>,
}

impl Aside {
    pub(crate) fn new(disk: &Disk) -> Self {
        Self { disk: disk.clone(), date: date_of(SystemTime::now()), folders: BTreeMap::new() }
    }

    /// The folder below `root`, on its filesystem.
    pub(crate) fn folder(&mut self, root: &Path) -> Result<PathBuf> {
        if let Some(folder) = self.folders.get(root) {
            return Ok(folder.clone());
        }
        let plain = root.join(format!("{PREFIX}{}", self.date));
        let numbered = (2..1000).map(|number| root.join(format!("{PREFIX}{}-{number}", self.date)));
        let folder = std::iter::once(plain.clone())
            .chain(numbered)
            .find(|folder| folder.symlink_metadata().is_err())
            .ok_or_else(|| Error::resource_exhausted(format!("too many folders like {}", plain.display())))?;
        self.disk
            .create_dir_all(&folder, 0o700)
            .map_err(|error| Error::io(format!("cannot make {}", folder.display()), error))?;
        self.folders.insert(root.to_owned(), folder.clone());
        Ok(folder)
    }

    /// Moves a file or folder to the folder below `root`, as `name`. It is on stable storage when this returns.
    pub(crate) fn move_there(&mut self, root: &Path, from: &Path, name: &str) -> Result<PathBuf> {
        let folder = self.folder(root)?;
        let to = folder.join(name);
        let parent = from.parent().unwrap_or(Path::new("/"));
        self.disk
            .rename(from, &to)
            .and_then(|()| self.disk.sync_folder(&folder))
            .and_then(|()| self.disk.sync_folder(parent))
            .map_err(|error| Error::io(format!("cannot set {} aside", from.display()), error))?;
        Ok(to)
    }

    /// Writes down a row that is dropped.
    pub(crate) fn write_row(&mut self, root: &Path, line: &str) -> Result<PathBuf> {
        let folder = self.folder(root)?;
        let path = folder.join(ROWS);
        let failed = |error| Error::io(format!("cannot write {}", path.display()), error);
        let mut file =
            if path.exists() { self.disk.open_append(&path) } else { self.disk.create_new(&path, 0o600) }
                .map_err(failed)?;
        file.append(format!("{line}\n").as_bytes()).map_err(failed)?;
        file.sync_all().and_then(|()| self.disk.sync_folder(&folder)).map_err(failed)?;
        Ok(path)
    }
}

/// `20261122T090501Z`.
fn date_of(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that a leap day is the last of its year; 400 of them are one era.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{date_of, is_aside};

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, wanted) in
            [(0, "19700101T000000Z"), (951_782_400, "20000229T000000Z"), (1_795_338_301, "20261122T090501Z")]
        {
            assert_eq!(date_of(UNIX_EPOCH + Duration::from_secs(seconds)), wanted);
        }
    }

    #[test]
    fn what_was_set_aside_is_known_by_its_name() {
        assert!(is_aside("set-aside-20261122T090501Z") && is_aside("meta.db.damaged-20261122T090501Z"));
        assert!(!is_aside("meta.db.damaged-20261122T090501Z-wal") && !is_aside("meta.db"));
    }
}
