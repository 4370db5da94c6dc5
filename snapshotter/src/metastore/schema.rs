//! The tables, as steps from an empty database. Steps are only ever added at the end.

use corten_database::Migration;

pub(super) const MIGRATIONS: &[Migration] =
    &[Migration::sql("snapshots and tombstones", TABLES), Migration::sql("manifests of trees", MANIFESTS)];

/// A row that is damaged stays so.
const MANIFESTS: &str = "ALTER TABLE snapshots ADD COLUMN manifest INTEGER;
    UPDATE snapshots
        SET checksum = crc32c(id, key, name, parent, kind, labels, size_bytes, inodes, created_ns, updated_ns, manifest)
        WHERE checksum = crc32c(id, key, name, parent, kind, labels, size_bytes, inodes, created_ns, updated_ns);";

const TABLES: &str = "CREATE TABLE snapshots (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         name TEXT NOT NULL UNIQUE,
         key TEXT NOT NULL,
         parent TEXT REFERENCES snapshots (name),
         kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
         labels TEXT NOT NULL,
         size_bytes INTEGER,
         inodes INTEGER,
         created_ns INTEGER NOT NULL,
         updated_ns INTEGER NOT NULL,
         checksum INTEGER NOT NULL
     ) STRICT;
     CREATE INDEX snapshots_by_parent ON snapshots (parent);
     CREATE INDEX snapshots_by_key ON snapshots (key);
     CREATE TABLE tombstones (
         id INTEGER PRIMARY KEY,
         name TEXT NOT NULL,
         removed_ns INTEGER NOT NULL
     ) STRICT;";
