//! The tables of the catalogue.

use corten_metadata::Stored;
use corten_snapshotter::Row as TreeRow;
use rusqlite::{Connection, Row, params};

use super::{CACHE_KIB, references};

/// Rows are read in the order in which they came, by their place.
const SCHEMA: &str = "
CREATE TABLE namespace (name TEXT PRIMARY KEY);
CREATE TABLE used_namespace (name TEXT PRIMARY KEY);
CREATE TABLE image (namespace TEXT, name TEXT, target TEXT);
CREATE INDEX image_by_target ON image (target, namespace);
CREATE TABLE container (namespace TEXT, id TEXT, image TEXT, snapshotter TEXT, snapshot_key TEXT);
CREATE INDEX container_by_id ON container (namespace, id);
CREATE INDEX container_by_image ON container (namespace, image);
CREATE INDEX container_by_snapshot ON container (namespace, snapshotter, snapshot_key);
CREATE TABLE blob (namespace TEXT, digest TEXT, size INTEGER);
CREATE INDEX blob_by_digest ON blob (digest, namespace);
CREATE TABLE reference (namespace TEXT, digest TEXT, label TEXT, snapshotter TEXT, target TEXT);
CREATE INDEX reference_by_target ON reference (target, namespace);
CREATE TABLE ingest (namespace TEXT, key TEXT, backend_ref TEXT);
CREATE INDEX ingest_by_ref ON ingest (backend_ref);
CREATE TABLE snapshot (
    namespace TEXT, snapshotter TEXT, key TEXT, backend_key TEXT, parent TEXT, pending TEXT);
CREATE INDEX snapshot_by_key ON snapshot (key, snapshotter, namespace);
CREATE INDEX snapshot_by_parent ON snapshot (parent, snapshotter, namespace);
CREATE INDEX snapshot_by_backend_key ON snapshot (backend_key, snapshotter);
CREATE INDEX snapshot_by_pending ON snapshot (pending, snapshotter) WHERE pending IS NOT NULL;
CREATE TABLE tree (snapshotter TEXT, id INTEGER, name TEXT, parent TEXT, kind TEXT, manifest INTEGER);
CREATE INDEX tree_by_id ON tree (id, snapshotter);
CREATE INDEX tree_by_name ON tree (name, snapshotter);
CREATE INDEX tree_by_parent ON tree (parent, snapshotter);
CREATE TABLE file (digest TEXT UNIQUE);
";

/// An empty database in a file without a name.
pub(super) fn create() -> rusqlite::Result<Connection> {
    let connection = Connection::open("")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// A table that is read from one end to the other.
pub(crate) trait Listed: Sized {
    const TABLE: &'static str;
    const COLUMNS: &'static str;
    /// Reads the columns, which begin at 1.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self>;
}

/// An image.
#[derive(Clone, Debug)]
pub(crate) struct ImageUse {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) target: String,
}

impl Listed for ImageUse {
    const TABLE: &'static str = "image";
    const COLUMNS: &'static str = "namespace, name, target";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { namespace: row.get(1)?, name: row.get(2)?, target: row.get(3)? })
    }
}

/// A container, as far as it refers to something.
#[derive(Clone, Debug)]
pub(crate) struct ContainerUse {
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) snapshotter: String,
    pub(crate) snapshot_key: String,
}

impl Listed for ContainerUse {
    const TABLE: &'static str = "container";
    const COLUMNS: &'static str = "namespace, id, snapshotter, snapshot_key";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            namespace: row.get(1)?,
            id: row.get(2)?,
            snapshotter: row.get(3)?,
            snapshot_key: row.get(4)?,
        })
    }
}

/// A label of a blob that refers to something.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) namespace: String,
    pub(crate) digest: String,
    pub(crate) label: String,
    pub(crate) target: String,
}

impl Listed for Reference {
    const TABLE: &'static str = "reference";
    const COLUMNS: &'static str = "namespace, digest, label, target";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { namespace: row.get(1)?, digest: row.get(2)?, label: row.get(3)?, target: row.get(4)? })
    }
}

/// An ingest of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct IngestUse {
    pub(crate) namespace: String,
    pub(crate) key: String,
    pub(crate) backend_ref: String,
}

impl Listed for IngestUse {
    const TABLE: &'static str = "ingest";
    const COLUMNS: &'static str = "namespace, key, backend_ref";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { namespace: row.get(1)?, key: row.get(2)?, backend_ref: row.get(3)? })
    }
}

/// A snapshot of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotUse {
    pub(crate) namespace: String,
    pub(crate) snapshotter: String,
    pub(crate) key: String,
}

impl Listed for SnapshotUse {
    const TABLE: &'static str = "snapshot";
    const COLUMNS: &'static str = "namespace, snapshotter, key";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { namespace: row.get(1)?, snapshotter: row.get(2)?, key: row.get(3)? })
    }
}

/// A row of a snapshotter.
#[derive(Clone, Debug)]
pub(crate) struct TreeUse {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) parent: String,
    /// The checksum of its manifest, if it has one.
    pub(crate) manifest: Option<u32>,
    pub(crate) is_committed: bool,
}

impl Listed for TreeUse {
    const TABLE: &'static str = "tree";
    const COLUMNS: &'static str = "id, name, parent, manifest, kind = 'committed'";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let id: i64 = row.get(1)?;
        Ok(Self {
            id: id.cast_unsigned(),
            name: row.get(2)?,
            parent: row.get(3)?,
            manifest: row.get(4)?,
            is_committed: row.get(5)?,
        })
    }
}

/// A digest.
#[derive(Clone, Debug)]
pub(crate) struct FileName(pub(crate) String);

impl Listed for FileName {
    const TABLE: &'static str = "file";
    const COLUMNS: &'static str = "digest";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        row.get(1).map(Self)
    }
}

/// The digest of a blob that a namespace has.
#[derive(Clone, Debug)]
pub(crate) struct BlobUse(pub(crate) String);

impl Listed for BlobUse {
    const TABLE: &'static str = "blob";
    const COLUMNS: &'static str = "digest";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        row.get(1).map(Self)
    }
}

/// Notes a row that is whole.
pub(super) fn add(index: &Connection, row: Stored) -> rusqlite::Result<()> {
    let insert =
        |text: &str, values: &[&dyn rusqlite::ToSql]| index.prepare_cached(text)?.execute(values).map(drop);
    let uses =
        |namespace: &str| insert("INSERT OR IGNORE INTO used_namespace VALUES (?1)", params![namespace]);
    match row {
        Stored::Namespace(info) => insert("INSERT INTO namespace VALUES (?1)", params![info.name.as_str()]),
        Stored::Image(row) => {
            uses(&row.namespace)?;
            let target = row.record.target.digest.as_str();
            insert("INSERT INTO image VALUES (?1, ?2, ?3)", params![row.namespace, row.record.name, target])
        }
        Stored::Container(row) => {
            uses(&row.namespace)?;
            let record = row.record;
            insert(
                "INSERT INTO container VALUES (?1, ?2, ?3, ?4, ?5)",
                params![row.namespace, record.id, record.image, record.snapshotter, record.snapshot_key],
            )
        }
        Stored::Blob(row) => {
            uses(&row.namespace)?;
            let (namespace, digest) = (row.namespace, row.digest.as_str());
            let size = row.size_bytes.cast_signed();
            insert("INSERT INTO blob VALUES (?1, ?2, ?3)", params![namespace, digest, size])?;
            for (label, snapshotter, target) in references(row.labels) {
                insert(
                    "INSERT INTO reference VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![namespace, digest, label, snapshotter, target],
                )?;
            }
            Ok(())
        }
        Stored::Ingest(row) => {
            uses(&row.namespace)?;
            insert("INSERT INTO ingest VALUES (?1, ?2, ?3)", params![row.namespace, row.key, row.backend_ref])
        }
        Stored::Snapshot(row) => {
            uses(&row.namespace)?;
            let pending = row.pending.map(|pending| pending.backend_name);
            insert(
                "INSERT INTO snapshot VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![row.namespace, row.snapshotter, row.key, row.backend_key, row.parent, pending],
            )
        }
        Stored::Sandbox(row) => uses(&row.namespace),
        Stored::Lease(row) => uses(&row.namespace),
        Stored::Resource(row) => uses(&row.namespace),
        Stored::Damaged(_) => Ok(()),
    }
}

/// Notes a row of a snapshotter.
pub(super) fn add_tree(index: &Connection, snapshotter: &str, row: &TreeRow) -> rusqlite::Result<()> {
    let kind = row.info.kind.as_str();
    index
        .prepare_cached("INSERT INTO tree VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            snapshotter,
            row.id.cast_signed(),
            row.info.name,
            row.info.parent,
            kind,
            row.manifest
        ])
        .map(drop)
}
