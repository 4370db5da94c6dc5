//! Opening: is it ours, is it whole, is it the one that was there last time.

use std::path::{Path, PathBuf};

use corten_types::{Error, ErrorKind, Result};
use rusqlite::Connection;

use crate::{
    checkpoint::{self, Mode},
    connection::{self, Role},
    core::Core,
    damage::set_aside,
    error::is_damage,
    evidence::{Evidence, LEAST_LOG_BYTES},
    identity,
    marker::{Marker, Schema, beside},
    migration::{self, Migration},
    record::{self, Record},
    schema,
    store_id::StoreId,
};

/// Whether the database can be trusted to know of everything that it knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is whole, and the one that was there last time.
    Healthy,
    /// It is not, or it was not at an earlier open and [`Database::release_quarantine`](crate::Database::release_quarantine)
    /// has not been called since. Nothing that is on the disk may be removed because no row speaks of it.
    Quarantine {
        /// What was found, as sentences.
        reason: String,
        /// Where the damaged database is now, if this open set it aside and began a new one.
        set_aside: Option<PathBuf>,
    },
}

impl Health {
    /// Whether it is [`Health::Healthy`].
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }
}

/// What was found at open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Whether the database can be trusted.
    pub health: Health,
    /// A new database was made.
    pub created: bool,
    /// It had not been closed: the last process died, or the power went.
    pub after_crash: bool,
    /// The schema version before migrations.
    pub schema_before: usize,
    /// The schema version now.
    pub schema: usize,
    /// The number of this open, one more than at the last.
    pub generation: u64,
    /// The identity of the store.
    pub store_id: StoreId,
}

pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) commits: u64,
    pub(crate) report: OpenReport,
}

/// What opening learns on its way.
#[derive(Default)]
struct Findings {
    doubts: Vec<String>,
    set_aside: Option<PathBuf>,
    created: bool,
}

pub(crate) fn open(core: &Core, migrations: &[Migration]) -> Result<Opened> {
    let mut findings = Findings::default();
    let marker = read_marker(core, &mut findings)?;
    judge_files(core, marker.as_ref(), &mut findings)?;
    // On a scripted disk files lose what they would lose, and this one is not among them.
    let said = if core.is_scripted() { None } else { Some(Evidence::read(&core.path)) };
    match checkpoint::renew_log(core) {
        // In place there is room where there was: without it the log is as durable as the last process left it.
        Err(error) if error.kind() == ErrorKind::ResourceExhausted => {}
        result => result?,
    }
    let (connection, found) = match examine(core, migrations, marker.as_ref()) {
        Ok(examined) => examined,
        Err(error)
            if is_damage(&error)
                || error.kind() == ErrorKind::DataLoss
                || (marker.is_some() && identity::is_of_another_format(&error)) =>
        {
            findings.doubts.push(error.chain());
            findings.set_aside = Some(set_aside(&core.disk, &core.path)?);
            examine(core, migrations, None)?
        }
        Err(error) => return Err(error),
    };
    let record = match found {
        Some(record) => {
            judge_log(core, said, &mut findings);
            judge_record(marker.as_ref(), &record, &mut findings);
            record
        }
        None => {
            if marker.is_some() && findings.doubts.is_empty() {
                findings.doubts.push("the database is empty, but was not before".to_owned());
            }
            findings.created = true;
            record::create(&connection, None)?;
            record::read(&connection)?.ok_or_else(|| Error::internal("the new record is missing"))?
        }
    };
    begin(core, connection, &record, marker.as_ref(), findings, migrations)
}

fn begin(
    core: &Core,
    connection: Connection,
    record: &Record,
    marker: Option<&Marker>,
    findings: Findings,
    migrations: &[Migration],
) -> Result<Opened> {
    let schema_before = migration::version_of(&connection)?;
    settle_log(core, &connection)?;
    let generation = record.generation.max(marker.map_or(0, |marker| marker.generation)) + 1;
    let new_reason = (!findings.doubts.is_empty()).then(|| findings.doubts.join("; "));
    // In the log before the marker says so: a log that is lost or torn below this point is noticed next time.
    record::begin_generation(&connection, generation, new_reason.as_deref())?;
    let is_current = schema_before == migrations.len();
    let schema = if is_current { Schema::Is } else { Schema::UpTo }(migrations.len());
    let marker_now =
        Marker { store_id: record.store_id.clone(), generation, schema: Some(schema), closed_at: None };
    marker_now.write(&core.disk, &core.path)?;
    if !is_current {
        migration::run(&connection, migrations, schema_before)?;
        let migrated = Marker { schema: Some(Schema::Is(migrations.len())), ..marker_now };
        migrated.write(&core.disk, &core.path)?;
    }
    let health = match record.quarantine.clone().or(new_reason) {
        None => Health::Healthy,
        Some(reason) => Health::Quarantine { reason, set_aside: findings.set_aside },
    };
    let report = OpenReport {
        health,
        created: findings.created,
        after_crash: marker.is_some_and(|marker| marker.closed_at.is_none()),
        schema_before,
        schema: migrations.len(),
        generation,
        store_id: record.store_id.clone(),
    };
    Ok(Opened { connection, commits: record.commits, report })
}

/// Copies what was recovered from the log into the database and begins the log anew.
///
/// It was written over itself before it was read, so that what a power cut leaves of it meanwhile is the same.
fn settle_log(core: &Core, connection: &Connection) -> Result<()> {
    match checkpoint::run(connection, Mode::Restart) {
        Ok(done) if done.busy => {
            Err(Error::unavailable(format!("another program has {} open", core.path.display())))
        }
        Ok(_) => Ok(()),
        // The log is whole all the same unless the disk failed as well, and deletions must get their chance.
        Err(error) if error.kind() == ErrorKind::ResourceExhausted && !core.reserve.exists() => Ok(()),
        Err(error) => Err(error),
    }
}

fn read_marker(core: &Core, findings: &mut Findings) -> Result<Option<Marker>> {
    match Marker::read(&core.path) {
        Err(error) if error.kind() == ErrorKind::DataLoss => {
            findings.doubts.push(error.chain());
            Ok(None)
        }
        result => result,
    }
}

/// Looks at which files there are, before SQLite touches them.
fn judge_files(core: &Core, marker: Option<&Marker>, findings: &mut Findings) -> Result<()> {
    let length = |path: &Path| path.metadata().map(|metadata| metadata.len()).ok();
    let database = length(&core.path).filter(|length| *length > 0);
    let log = length(&beside(&core.path, "-wal"));
    let has_log = log.is_some();
    match (database, marker) {
        (None, None) if !has_log => {}
        (None, _) => {
            findings.doubts.push("the database file is missing or empty".to_owned());
            if has_log {
                // SQLite would delete a log without a database.
                findings.set_aside = Some(set_aside(&core.disk, &core.path)?);
            }
        }
        (Some(_), Some(Marker { closed_at: None, .. })) if !has_log => {
            findings.doubts.push("the database was not closed and its write-ahead log is missing".to_owned());
        }
        (Some(_), Some(marker)) if marker.promises_a_log() && log < Some(LEAST_LOG_BYTES) => {
            findings.doubts.push("the database was not closed and its write-ahead log was cut".to_owned());
        }
        (Some(_), _) => {}
    }
    Ok(())
}

/// Opens and checks; damage is an error of the kind `DataLoss`. The record is missing in an empty database.
fn examine(
    core: &Core,
    migrations: &[Migration],
    marker: Option<&Marker>,
) -> Result<(Connection, Option<Record>)> {
    let connection = core.open(Role::Writer)?;
    identity::check_application(&connection, &core.path, migrations)?;
    let version = identity::version(&connection, &core.path, migrations, marker)?;
    if let Some(finding) = connection::quick_check(&connection)? {
        return Err(Error::data_loss(format!("the database is damaged: {finding}")));
    }
    let record = record::read(&connection)?;
    if record.is_none() && !connection::is_empty(&connection)? {
        return Err(Error::data_loss("the record of the database is missing"));
    }
    if record.is_some() {
        schema::check(&connection, migrations, version)?;
    }
    Ok((connection, record))
}

/// Compares what was recovered of the log with what the process before had committed to it.
fn judge_log(core: &Core, said: Option<Evidence>, findings: &mut Findings) {
    let Some(said) = said.filter(|_| findings.set_aside.is_none()) else { return };
    findings.doubts.extend(said.contradicts(&core.path));
}

/// Compares the record with the marker that was written at the last open or close.
fn judge_record(marker: Option<&Marker>, record: &Record, findings: &mut Findings) {
    let Some(marker) = marker else {
        // The first open writes the marker right after the first generation; a crash may come between.
        if (record.generation > 1 || record.commits > 0) && findings.doubts.is_empty() {
            findings.doubts.push("the marker beside the database is missing".to_owned());
        }
        return;
    };
    if marker.store_id != record.store_id {
        findings.doubts.push(format!(
            "the database has the store id {}, but the last one here had {}",
            record.store_id, marker.store_id
        ));
        return;
    }
    if record.generation < marker.generation {
        findings.doubts.push(format!(
            "the database is of generation {}, but was of {} before: it is an old copy, or its write-ahead log was lost",
            record.generation, marker.generation
        ));
    } else if record.generation > marker.generation + 1 {
        findings.doubts.push(format!(
            "the database is of generation {}, but was of {} before: it was used elsewhere",
            record.generation, marker.generation
        ));
    }
    if let Some(closed_at) = marker.closed_at
        && closed_at != record.commits
    {
        findings.doubts.push(format!(
            "the last commit in the database is number {}, but it was closed at number {closed_at}",
            record.commits
        ));
    }
}
