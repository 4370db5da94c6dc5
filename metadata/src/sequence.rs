//! Numbers that keep names in the stores below from ever being used twice.

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use corten_types::{Error, Result};

use crate::{Metadata, change::Change, row};

/// How many numbers are reserved at a time.
const RESERVED: u64 = 1000;

const SETTING: &str = "sequence";

/// Gives out numbers from a range that is reserved in the database: after a crash the rest of it is skipped.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    range: Mutex<Range<u64>>,
}

impl Sequence {
    fn range(&self) -> MutexGuard<'_, Range<u64>> {
        self.range.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that was never given before.
    pub(crate) async fn next(&self, metadata: &Metadata) -> Result<u64> {
        loop {
            if let Some(number) = self.range().next() {
                return Ok(number);
            }
            self.reserve(metadata, 0).await?;
        }
    }

    /// Reserves numbers that are at least `least`.
    pub(crate) async fn reserve(&self, metadata: &Metadata, least: u64) -> Result<()> {
        let first = metadata.write(move |change| Ok(reserve(change, least)?)).await?;
        let mut range = self.range();
        if range.end <= first {
            *range = first..first + RESERVED;
        }
        Ok(())
    }
}

fn reserve(change: &mut Change<'_>, least: u64) -> Result<u64> {
    change.quiet();
    let mut stored = None;
    row::query(change.connection, "SELECT value FROM settings WHERE name = ?1", [SETTING], |row| {
        stored = Some(row.get::<_, String>(0)?);
        Ok(())
    })?;
    let damaged = |_| Error::data_loss("metadata: the setting \"sequence\" is not a number");
    let stored = stored.map_or(Ok(1), |text| text.parse::<u64>()).map_err(damaged)?;
    let first = stored.max(least);
    let next = (first + RESERVED).to_string();
    row::execute(change.connection, "REPLACE INTO settings (name, value) VALUES (?1, ?2)", [SETTING, &next])?;
    Ok(first)
}

/// The number in a name of a store below, `<namespace>/<number>/<rest>`; `None` if another program gave the name.
pub(crate) fn of_name(name: &str) -> Option<u64> {
    let mut parts = name.splitn(3, '/');
    let (_namespace, number, _rest) = (parts.next()?, parts.next()?, parts.next()?);
    number.parse().ok()
}
