//! The tables (`docs/formats/metadata.md`).

/// The statements that bring an empty database to version 1. Every table of records has keys that sort as bytes, as
/// containerd's lists do.
pub(crate) const VERSION_1: &str = "
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE images (
    namespace TEXT NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL, digest TEXT NOT NULL,
    size INTEGER NOT NULL, annotations TEXT NOT NULL, labels TEXT NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)) WITHOUT ROWID;
CREATE TABLE containers (
    namespace TEXT NOT NULL, id TEXT NOT NULL, image TEXT NOT NULL, runtime TEXT NOT NULL,
    options_type TEXT, options BLOB, spec_type TEXT, spec BLOB,
    snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL, sandbox TEXT NOT NULL,
    extensions BLOB NOT NULL, labels TEXT NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, id));
CREATE TABLE sandboxes (
    namespace TEXT NOT NULL, id TEXT NOT NULL, sandboxer TEXT NOT NULL, runtime TEXT NOT NULL,
    options_type TEXT, options BLOB, spec_type TEXT, spec BLOB,
    extensions BLOB NOT NULL, labels TEXT NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, id));
CREATE TABLE leases (
    namespace TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL,
    created_at INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)) WITHOUT ROWID;
CREATE TABLE lease_resources (
    namespace TEXT NOT NULL, lease TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (namespace, lease, kind, id)) WITHOUT ROWID;
CREATE TABLE blobs (
    namespace TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, digest)) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE TABLE ingests (
    namespace TEXT NOT NULL, ref TEXT NOT NULL, backend_ref TEXT NOT NULL, expected TEXT, size INTEGER NOT NULL,
    started_at INTEGER NOT NULL, expires_at INTEGER, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, ref)) WITHOUT ROWID;
CREATE TABLE snapshots (
    namespace TEXT NOT NULL, snapshotter TEXT NOT NULL, key TEXT NOT NULL, backend_key TEXT NOT NULL,
    parent TEXT NOT NULL, labels TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    pending TEXT, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, snapshotter, key)) WITHOUT ROWID;
CREATE INDEX snapshots_by_parent ON snapshots (namespace, snapshotter, parent);
CREATE INDEX snapshots_by_backend_key ON snapshots (snapshotter, backend_key);
CREATE TABLE back_references (
    namespace TEXT NOT NULL, parent_kind TEXT NOT NULL, parent TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (namespace, parent_kind, parent, kind, id)) WITHOUT ROWID;
CREATE INDEX back_references_by_id ON back_references (namespace, kind, id);
CREATE TABLE tombstones (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL);
";

/// The statements from version 1 to version 2.
pub(crate) const VERSION_2: &str = "
CREATE TABLE resources (
    namespace TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
    labels TEXT NOT NULL, data BLOB, created_at INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (namespace, kind, name)) WITHOUT ROWID;
";

/// The statements from version 2 to version 3. Databases of version 2 that have the index already were made between two
/// releases.
pub(crate) const VERSION_3: &str = "
CREATE INDEX IF NOT EXISTS containers_in_short ON containers
    (namespace, id, image, runtime, labels, snapshotter, snapshot_key);
";

#[cfg(test)]
mod tests;
