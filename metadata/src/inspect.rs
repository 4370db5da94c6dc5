//! Rows as they are stored, damaged ones included: what a program that checks the store looks at.

use corten_database::{
    Doing,
    rusqlite::{
        self, Connection, ToSql, params_from_iter,
        types::{ToSqlOutput, Value, ValueRef},
    },
};
use corten_types::{Digest, Result};
use serde_json::json;

use crate::{
    Container, Image, Lease, Metadata, NamespaceInfo, Sandbox,
    metadata::blocking,
    row::{self, Record},
    tables::{BlobRow, In, IngestRow, ResourceRow, SnapshotRow},
};

/// A table of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Namespaces.
    Namespaces,
    /// Images.
    Images,
    /// Containers.
    Containers,
    /// Sandboxes.
    Sandboxes,
    /// Leases.
    Leases,
    /// Blobs that namespaces have.
    Blobs,
    /// Ingests of namespaces.
    Ingests,
    /// Snapshots of namespaces.
    Snapshots,
    /// Things that other parts look after.
    Resources,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Namespaces,
        Self::Images,
        Self::Containers,
        Self::Sandboxes,
        Self::Leases,
        Self::Blobs,
        Self::Ingests,
        Self::Snapshots,
        Self::Resources,
    ];

    /// The name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => NamespaceInfo::TABLE,
            Self::Images => In::<Image>::TABLE,
            Self::Containers => In::<Container>::TABLE,
            Self::Sandboxes => In::<Sandbox>::TABLE,
            Self::Leases => In::<Lease>::TABLE,
            Self::Blobs => BlobRow::TABLE,
            Self::Ingests => IngestRow::TABLE,
            Self::Snapshots => SnapshotRow::TABLE,
            Self::Resources => In::<ResourceRow>::TABLE,
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub enum Stored {
    /// A namespace.
    Namespace(NamespaceInfo),
    /// An image.
    Image(In<Image>),
    /// A container.
    Container(In<Container>),
    /// A sandbox.
    Sandbox(In<Sandbox>),
    /// A lease.
    Lease(In<Lease>),
    /// A blob that a namespace has.
    Blob(BlobRow),
    /// An ingest of a namespace.
    Ingest(IngestRow),
    /// A snapshot of a namespace.
    Snapshot(SnapshotRow),
    /// A thing that another part looks after.
    Resource(In<ResourceRow>),
    /// A row of any table whose checksum is wrong.
    Damaged(DamagedRow),
}

/// A row that cannot be trusted.
#[derive(Clone, Debug)]
pub struct DamagedRow {
    /// Where it is.
    pub table: Table,
    /// Its key as far as it can be read, the namespace first.
    pub key: Vec<String>,
    /// Its place.
    pub place: RowKey,
    /// All of its columns as a JSON object, bytes in hexadecimal digits.
    pub content: String,
}

/// The place of a row in its table.
#[derive(Clone, Debug, PartialEq)]
pub struct RowKey(pub(crate) Vec<Cell>);

/// Some rows of a table.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the order of their keys.
    pub rows: Vec<Stored>,
    /// Where the next page begins; none after the last.
    pub next: Option<RowKey>,
}

/// A column as it lies in the database: a text may be none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Cell {
    pub(crate) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }

    /// As a value of the database; a text that is none becomes bytes, which no column of texts accepts.
    fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Text(bytes) => match String::from_utf8(bytes.clone()) {
                Ok(text) => Value::Text(text),
                Err(_) => Value::Blob(bytes.clone()),
            },
            Self::Blob(bytes) => Value::Blob(bytes.clone()),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Integer(number) => json!(number),
            Self::Real(number) => json!(number),
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({ "hex": hex(bytes) }),
            },
            Self::Blob(bytes) => json!({ "hex": hex(bytes) }),
        }
    }

    fn display(&self) -> String {
        match self {
            Self::Text(bytes) | Self::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Real(number) => number.to_string(),
            Self::Null => String::new(),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Metadata {
    /// Up to `limit` rows of `table`, beginning after `after`.
    ///
    /// # Errors
    /// That a page of the database cannot be read. A row with a wrong checksum is none: it is [`Stored::Damaged`].
    pub async fn stored(&self, table: Table, after: Option<RowKey>, limit: usize) -> Result<Page> {
        self.read(move |connection| page_of(connection, table, after.as_ref(), limit)).await
    }

    /// The rows of all namespaces for a blob. Damaged ones are left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn blob_rows(&self, digest: &Digest) -> Result<Vec<BlobRow>> {
        let digest = digest.clone();
        self.read(move |connection| {
            let text = "SELECT namespace FROM blobs WHERE digest = ?1 ORDER BY namespace";
            let mut namespaces: Vec<String> = Vec::new();
            row::query(connection, text, [digest.as_str()], |row| {
                namespaces.push(row.get(0)?);
                Ok(())
            })?;
            let found =
                namespaces.iter().map(|namespace| row::get(connection, &[namespace, digest.as_str()]));
            whole(found)
        })
        .await
    }

    /// The row of a snapshot, if there is one and it is whole.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn snapshot_row(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &str,
    ) -> Result<Option<SnapshotRow>> {
        let keys = [namespace.to_owned(), snapshotter.to_owned(), key.to_owned()];
        self.read(move |connection| {
            let keys = [keys[0].as_str(), &keys[1], &keys[2]];
            Ok(whole(std::iter::once(row::get(connection, &keys)))?.pop())
        })
        .await
    }

    /// The row of an ingest, if there is one and it is whole.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ingest_row(&self, namespace: &str, key: &str) -> Result<Option<IngestRow>> {
        let keys = [namespace.to_owned(), key.to_owned()];
        self.read(move |connection| {
            Ok(whole(std::iter::once(row::get(connection, &[&keys[0], &keys[1]])))?.pop())
        })
        .await
    }

    /// The rows of all namespaces for a snapshot of a snapshotter. Damaged ones are left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn snapshot_rows(&self, snapshotter: &str, backend_key: &str) -> Result<Vec<SnapshotRow>> {
        let wanted = [snapshotter.to_owned(), backend_key.to_owned()];
        self.read(move |connection| {
            let text = "SELECT namespace, key FROM snapshots WHERE snapshotter = ?1 AND backend_key = ?2";
            let mut keys: Vec<(String, String)> = Vec::new();
            row::query(connection, text, [&wanted[0], &wanted[1]], |row| {
                keys.push((row.get(0)?, row.get(1)?));
                Ok(())
            })?;
            whole(keys.iter().map(|(namespace, key)| row::get(connection, &[namespace, &wanted[0], key])))
        })
        .await
    }

    /// Looks at every page and index of the database, and says what is wrong: nothing if all is well.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn check_database(&self) -> Result<Vec<String>> {
        let database = std::sync::Arc::clone(&self.inner.database);
        blocking(move || database.check()).await
    }

    /// Where the database is.
    #[must_use]
    pub fn database_path(&self) -> &std::path::Path {
        self.inner.database.path()
    }
}

/// The rows that are there and whole.
fn whole<T>(found: impl Iterator<Item = Result<Option<T>>>) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for row in found {
        match row {
            Err(error) if error.kind() == corten_types::ErrorKind::DataLoss => {}
            row => rows.extend(row?),
        }
    }
    Ok(rows)
}

fn page_of(connection: &Connection, table: Table, after: Option<&RowKey>, limit: usize) -> Result<Page> {
    match table {
        Table::Namespaces => page(connection, table, after, limit, Stored::Namespace),
        Table::Images => page(connection, table, after, limit, Stored::Image),
        Table::Containers => page(connection, table, after, limit, Stored::Container),
        Table::Sandboxes => page(connection, table, after, limit, Stored::Sandbox),
        Table::Leases => page(connection, table, after, limit, Stored::Lease),
        Table::Blobs => page(connection, table, after, limit, Stored::Blob),
        Table::Ingests => page(connection, table, after, limit, Stored::Ingest),
        Table::Snapshots => page(connection, table, after, limit, Stored::Snapshot),
        Table::Resources => page(connection, table, after, limit, Stored::Resource),
    }
}

fn page<T: Record>(
    connection: &Connection,
    table: Table,
    after: Option<&RowKey>,
    limit: usize,
    wrap: fn(T) -> Stored,
) -> Result<Page> {
    let keys = T::COLUMNS[..T::KEYS].join(", ");
    let places: Vec<String> = (1..=T::KEYS).map(|at| format!("?{at}")).collect();
    let begin = after.map(|_| format!(" WHERE ({keys}) > ({})", places.join(", "))).unwrap_or_default();
    let columns = row::columns::<T>();
    let text = format!("SELECT {columns}, checksum FROM {}{begin} ORDER BY {keys} LIMIT {limit}", T::TABLE);
    let mut page = Page::default();
    let mut last = None;
    let params = after.map(|key| key.0.as_slice()).unwrap_or_default();
    row::query(connection, &text, params_from_iter(params), |row| {
        let cells = (0..=T::COLUMNS.len())
            .map(|at| row.get_ref(at).map(Cell::of))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        last = Some(RowKey(cells[..T::KEYS].to_vec()));
        page.rows.push(read::<T>(table, &cells, wrap));
        Ok(())
    })?;
    page.next = last.filter(|_| page.rows.len() == limit);
    Ok(page)
}

/// The row that these cells, the checksum last, make.
pub(crate) fn read<T: Record>(table: Table, cells: &[Cell], wrap: fn(T) -> Stored) -> Stored {
    let (columns, checksum) = cells.split_at(T::COLUMNS.len());
    let decoded = match checksum {
        [Cell::Integer(checksum)] => {
            let columns: Vec<Value> = columns.iter().map(Cell::value).collect();
            row::decode::<T>(&columns, *checksum).ok()
        }
        _ => None,
    };
    match decoded {
        Some(record) => wrap(record),
        None => Stored::Damaged(DamagedRow {
            table,
            key: columns[..T::KEYS].iter().map(Cell::display).collect(),
            place: RowKey(columns[..T::KEYS].to_vec()),
            content: content_of::<T>(columns),
        }),
    }
}

fn content_of<T: Record>(columns: &[Cell]) -> String {
    let object: serde_json::Map<String, serde_json::Value> =
        T::COLUMNS.iter().zip(columns).map(|(name, cell)| ((*name).to_owned(), cell.to_json())).collect();
    serde_json::Value::Object(object).to_string()
}

/// Deletes the row at `place`; whether there was one.
pub(crate) fn delete(connection: &Connection, row: &DamagedRow) -> Result<bool> {
    let keys = match row.table {
        Table::Namespaces => key_columns::<NamespaceInfo>(),
        Table::Images => key_columns::<In<Image>>(),
        Table::Containers => key_columns::<In<Container>>(),
        Table::Sandboxes => key_columns::<In<Sandbox>>(),
        Table::Leases => key_columns::<In<Lease>>(),
        Table::Blobs => key_columns::<BlobRow>(),
        Table::Ingests => key_columns::<IngestRow>(),
        Table::Snapshots => key_columns::<SnapshotRow>(),
        Table::Resources => key_columns::<In<ResourceRow>>(),
    };
    let terms: Vec<String> =
        keys.iter().enumerate().map(|(at, column)| format!("{column} IS ?{}", at + 1)).collect();
    let text = format!("DELETE FROM {} WHERE {}", row.table.name(), terms.join(" AND "));
    let run = || connection.prepare(&text)?.execute(params_from_iter(&row.place.0));
    Ok(run().doing(format!("metadata: cannot remove a damaged row of {}", row.table.name()))? > 0)
}

fn key_columns<T: Record>() -> &'static [&'static str] {
    &T::COLUMNS[..T::KEYS]
}
