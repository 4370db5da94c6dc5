//! Rows out of a database that was damaged and set aside: each is believed because of its checksum.

use std::path::{Path, PathBuf};

use corten_database::{
    Salvage,
    rusqlite::types::{Value, ValueRef},
};
use corten_types::Result;

use crate::{
    Container, Image, Lease, Metadata, NamespaceInfo, Resource, Sandbox,
    inspect::{self, Cell, Stored, Table},
    metadata::{MIGRATIONS, blocking},
    row::Record,
    tables::{BlobRow, In, IngestRow, ResourceRow, SnapshotRow},
};

/// What could be read of a database that was set aside.
#[derive(Clone, Debug, Default)]
pub struct Salvaged {
    /// Whole rows; a row may be there twice.
    pub rows: Vec<Stored>,
    /// What leases keep: namespace, lease, resource. These rows have no checksum; a wrong one keeps something or names nothing.
    pub resources: Vec<(String, String, Resource)>,
    /// Rows that could be read and have a wrong checksum.
    pub damaged: u64,
    /// Whether every page could be read.
    pub is_complete: bool,
}

impl Metadata {
    /// Reads what is left of the database `damaged` (absolute), which was set aside, through a copy in the folder `scratch`.
    /// Nothing is written to this store.
    ///
    /// # Errors
    /// - `DataLoss`: nothing at all can be read.
    /// - Others: the disk.
    pub async fn salvage(damaged: &Path, scratch: &Path) -> Result<Salvaged> {
        let (damaged, scratch): (PathBuf, PathBuf) = (damaged.to_owned(), scratch.to_owned());
        blocking(move || {
            let source = Salvage::open(&damaged, &scratch, MIGRATIONS)?;
            let mut found = Salvaged { is_complete: true, ..Salvaged::default() };
            read::<NamespaceInfo>(&source, Table::Namespaces, Stored::Namespace, &mut found);
            read::<In<Image>>(&source, Table::Images, Stored::Image, &mut found);
            read::<In<Container>>(&source, Table::Containers, Stored::Container, &mut found);
            read::<In<Sandbox>>(&source, Table::Sandboxes, Stored::Sandbox, &mut found);
            read::<In<Lease>>(&source, Table::Leases, Stored::Lease, &mut found);
            read::<BlobRow>(&source, Table::Blobs, Stored::Blob, &mut found);
            read::<IngestRow>(&source, Table::Ingests, Stored::Ingest, &mut found);
            read::<SnapshotRow>(&source, Table::Snapshots, Stored::Snapshot, &mut found);
            read::<In<ResourceRow>>(&source, Table::Resources, Stored::Resource, &mut found);
            read_resources(&source, &mut found);
            Ok(found)
        })
        .await
    }
}

fn read<T: Record>(source: &Salvage, table: Table, wrap: fn(T) -> Stored, found: &mut Salvaged) {
    let mut columns = T::COLUMNS.to_vec();
    columns.push("checksum");
    let (rows, damaged) = (&mut found.rows, &mut found.damaged);
    let complete = source.rows(T::TABLE, &columns, &T::COLUMNS[..T::KEYS], |values| {
        let cells: Vec<Cell> = values.iter().map(|value| Cell::of(ValueRef::from(value))).collect();
        match inspect::read::<T>(table, &cells, wrap) {
            Stored::Damaged(_) => *damaged += 1,
            row => rows.push(row),
        }
    });
    found.is_complete &= complete;
}

fn read_resources(source: &Salvage, found: &mut Salvaged) {
    let columns = ["namespace", "lease", "kind", "id"];
    let resources = &mut found.resources;
    let complete = source.rows("lease_resources", &columns, &columns, |values| {
        if let Ok([Value::Text(namespace), Value::Text(lease), Value::Text(kind), Value::Text(id)]) =
            <[Value; 4]>::try_from(values)
        {
            resources.push((namespace, lease, Resource { kind, id }));
        }
    });
    found.is_complete &= complete;
}
