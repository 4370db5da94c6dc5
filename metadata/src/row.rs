//! Rows with checksums: how records become columns and come back.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    ops::ControlFlow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use corten_database::{
    Doing,
    rusqlite::{
        self, Connection, Params, params_from_iter,
        types::{Value, ValueRef},
    },
};
use corten_types::{Any, Error, Labels, Result};

/// A record that is one row. Its columns are text, integer, blob or null; the table has a column `checksum` after them.
pub(crate) trait Record: Sized {
    /// The table.
    const TABLE: &'static str;
    /// Its columns without the checksum; those of the key first.
    const COLUMNS: &'static [&'static str];
    /// How many columns the key has. The last of them is what lists are ordered by.
    const KEYS: usize;

    /// The columns in their order.
    fn to_values(&self) -> Vec<Value>;

    /// The record of these columns.
    fn from_values(values: &mut Values<'_>) -> Result<Self>;
}

/// The most columns that a table has, the checksum among them.
const MOST_COLUMNS: usize = 24;

/// Runs a statement that is prepared once; how many rows it changed.
pub(crate) fn execute(connection: &Connection, text: &str, params: impl Params) -> Result<usize> {
    let run = || connection.prepare_cached(text)?.execute(params);
    run().or_else(|error| cannot_run(text, error))
}

/// Runs a query that is prepared once and hands each row to `visit`.
pub(crate) fn query(
    connection: &Connection,
    text: &str,
    params: impl Params,
    mut visit: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<()>,
) -> Result<()> {
    let run = || {
        let mut statement = connection.prepare_cached(text)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            visit(row)?;
        }
        Ok(())
    };
    run().or_else(|error| cannot_run(text, error))
}

/// Whether a query that is prepared once finds anything.
pub(crate) fn exists(connection: &Connection, text: &str, params: impl Params) -> Result<bool> {
    let run = || connection.prepare_cached(text)?.exists(params);
    run().or_else(|error| cannot_run(text, error))
}

fn cannot_run<T>(text: &str, error: rusqlite::Error) -> Result<T> {
    Err(error).doing(format!("metadata: cannot run {text:?}"))
}

/// The record with this key.
///
/// # Errors
/// `DataLoss` if its checksum is wrong.
pub(crate) fn get<T: Record>(connection: &Connection, keys: &[&str]) -> Result<Option<T>> {
    get_raw(connection, keys, |raw: &Raw<'_, T>| raw.decode())
}

/// What `take` makes of the row with this key, whose checksum is right.
pub(crate) fn get_raw<T: Record, U>(
    connection: &Connection,
    keys: &[&str],
    take: impl Fn(&Raw<'_, T>) -> Result<U>,
) -> Result<Option<U>> {
    let text =
        format!("SELECT {}, checksum FROM {} WHERE {}", columns::<T>(), T::TABLE, key_equals::<T>(T::KEYS));
    let mut found = None;
    query(connection, &text, params_from_iter(keys), |row| {
        found = Some(Raw::<T>::read(row)?.and_then(|raw| take(&raw)));
        Ok(())
    })?;
    found.transpose()
}

/// Writes a new record; whether there was none with its key.
pub(crate) fn insert<T: Record>(connection: &Connection, record: &T) -> Result<bool> {
    write("INSERT OR IGNORE", connection, record).map(|changed| changed > 0)
}

/// Writes a record in place of the one with its key.
pub(crate) fn replace<T: Record>(connection: &Connection, record: &T) -> Result<()> {
    write("REPLACE", connection, record).map(drop)
}

/// Deletes the record with this key; whether there was one.
pub(crate) fn delete<T: Record>(connection: &Connection, keys: &[&str]) -> Result<bool> {
    let text = format!("DELETE FROM {} WHERE {}", T::TABLE, key_equals::<T>(T::KEYS));
    execute(connection, &text, params_from_iter(keys)).map(|changed| changed > 0)
}

/// Hands `visit` the records whose key begins with `prefix`, in the order of the rest of the key, beginning after
/// `after` (which needs all but one column of the key in `prefix`).
pub(crate) fn scan<T: Record>(
    connection: &Connection,
    prefix: &[&str],
    after: Option<&str>,
    mut visit: impl FnMut(T) -> Result<ControlFlow<()>>,
) -> Result<()> {
    scan_raw(connection, prefix, after, |raw: &Raw<'_, T>| visit(raw.decode()?))
}

/// The same with rows that are not decoded yet; their checksums are right.
pub(crate) fn scan_raw<T: Record>(
    connection: &Connection,
    prefix: &[&str],
    after: Option<&str>,
    mut visit: impl FnMut(&Raw<'_, T>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let source = format!("SELECT {}, checksum FROM {}", columns::<T>(), T::TABLE);
    let text = in_order::<T>(source, prefix.len(), after.is_some());
    let what = format!("metadata: cannot run {text:?}");
    let mut statement = connection.prepare_cached(&text).doing(&what)?;
    let mut rows = statement.query(params_from_iter(prefix.iter().copied().chain(after))).doing(&what)?;
    while let Some(row) = rows.next().doing(&what)? {
        if visit(&Raw::read(row).doing(&what)??)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Hands `visit` those columns that an index has (`columns` are their places in the row), without their checksum: what is
/// found is to be read from its row.
pub(crate) fn scan_index<T: Record>(
    connection: &Connection,
    index: &str,
    columns: &[usize],
    prefix: &[&str],
    after: Option<&str>,
    mut visit: impl FnMut(&[ValueRef<'_>]) -> ControlFlow<()>,
) -> Result<()> {
    let names: Vec<&str> = columns.iter().map(|&column| T::COLUMNS[column]).collect();
    let source = format!("SELECT {} FROM {} INDEXED BY {index}", names.join(", "), T::TABLE);
    let text = in_order::<T>(source, prefix.len(), after.is_some());
    let what = format!("metadata: cannot run {text:?}");
    let mut statement = connection.prepare_cached(&text).doing(&what)?;
    let mut rows = statement.query(params_from_iter(prefix.iter().copied().chain(after))).doing(&what)?;
    while let Some(row) = rows.next().doing(&what)? {
        let mut found = [ValueRef::Null; MOST_COLUMNS];
        for (at, &column) in columns.iter().enumerate() {
            found[column] = row.get_ref(at).doing(&what)?;
        }
        if visit(&found[..T::COLUMNS.len()]).is_break() {
            break;
        }
    }
    Ok(())
}

/// Up to `limit` records below `prefix` that `matches` lets through.
pub(crate) fn list<T: Record>(
    connection: &Connection,
    prefix: &[&str],
    after: Option<&str>,
    limit: usize,
    matches: impl Fn(&T) -> bool,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    scan(connection, prefix, after, |record: T| {
        if matches(&record) {
            found.push(record);
        }
        Ok(if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found)
}

/// The rest of a query over rows whose key begins with `prefix` columns and goes on behind a text.
fn in_order<T: Record>(mut text: String, prefix: usize, goes_on: bool) -> String {
    if prefix > 0 {
        text = format!("{text} WHERE {}", key_equals::<T>(prefix));
    }
    if goes_on {
        text = format!("{text} AND {} > ?{}", T::COLUMNS[prefix], prefix + 1);
    }
    format!("{text} ORDER BY {}", T::COLUMNS[..T::KEYS].join(", "))
}

pub(crate) fn columns<T: Record>() -> String {
    T::COLUMNS.join(", ")
}

fn key_equals<T: Record>(count: usize) -> String {
    let terms: Vec<String> = T::COLUMNS[..count]
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{column} = ?{}", at + 1))
        .collect();
    terms.join(" AND ")
}

fn write<T: Record>(verb: &str, connection: &Connection, record: &T) -> Result<usize> {
    let mut values = record.to_values();
    debug_assert_eq!(values.len(), T::COLUMNS.len(), "{} has other columns", T::TABLE);
    let refs: Vec<ValueRef<'_>> = values.iter().map(ValueRef::from).collect();
    let checksum = checksum(&refs);
    values.push(Value::Integer(checksum));
    let places = vec!["?"; values.len()].join(", ");
    let text = format!("{verb} INTO {} ({}, checksum) VALUES ({places})", T::TABLE, columns::<T>());
    execute(connection, &text, params_from_iter(values))
}

/// A row whose checksum is right, not decoded.
pub(crate) struct Raw<'a, T> {
    columns: [ValueRef<'a>; MOST_COLUMNS],
    record: PhantomData<T>,
}

impl<'a, T: Record> Raw<'a, T> {
    const FITS: () = assert!(T::COLUMNS.len() < MOST_COLUMNS);

    /// Outside SQLite's errors, inside damage.
    fn read(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Result<Self>> {
        let () = Self::FITS;
        let mut columns = [ValueRef::Null; MOST_COLUMNS];
        for (at, column) in columns.iter_mut().enumerate().take(T::COLUMNS.len()) {
            *column = row.get_ref(at)?;
        }
        let stored: i64 = row.get(T::COLUMNS.len())?;
        Ok(Self::checked(columns, stored))
    }

    fn checked(columns: [ValueRef<'a>; MOST_COLUMNS], stored: i64) -> Result<Self> {
        if checksum(&columns[..T::COLUMNS.len()]) == stored {
            return Ok(Self { columns, record: PhantomData });
        }
        let key: Vec<String> = columns[..T::KEYS]
            .iter()
            .map(|value| match value {
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        Err(Error::data_loss(format!("metadata: the row of {} in {} is damaged", key.join("/"), T::TABLE)))
    }

    pub(crate) fn decode(&self) -> Result<T> {
        T::from_values(&mut Values { table: T::TABLE, values: self.columns[..T::COLUMNS.len()].iter() })
    }

    /// The columns, without the checksum.
    pub(crate) fn columns(&self) -> &[ValueRef<'a>] {
        &self.columns[..T::COLUMNS.len()]
    }
}

/// The record of columns that were read before, if their checksum is right.
pub(crate) fn decode<T: Record>(values: &[Value], stored: i64) -> Result<T> {
    let mut columns = [ValueRef::Null; MOST_COLUMNS];
    for (column, value) in columns.iter_mut().zip(values) {
        *column = value.into();
    }
    Raw::<T>::checked(columns, stored)?.decode()
}

/// CRC-32C over every column: one byte for its type, its length, its bytes.
fn checksum(values: &[ValueRef<'_>]) -> i64 {
    let mut sum = 0;
    for value in values {
        let integer;
        let (kind, bytes): (u8, &[u8]) = match value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(number) => {
                integer = number.to_le_bytes();
                (1, &integer)
            }
            ValueRef::Real(number) => {
                integer = number.to_le_bytes();
                (2, &integer)
            }
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        let mut head = [kind; 9];
        head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        sum = crc32c::crc32c_append(sum, &head);
        sum = crc32c::crc32c_append(sum, bytes);
    }
    i64::from(sum)
}

/// The columns of one row, taken one after another.
pub(crate) struct Values<'a> {
    table: &'static str,
    values: std::slice::Iter<'a, ValueRef<'a>>,
}

impl<'a> Values<'a> {
    fn damaged(&self) -> Error {
        Error::data_loss(format!("metadata: a row of {} does not have the columns it should", self.table))
    }

    fn str(&mut self) -> Result<&'a str> {
        self.optional_str()?.ok_or_else(|| self.damaged())
    }

    fn optional_str(&mut self) -> Result<Option<&'a str>> {
        match self.values.next() {
            Some(ValueRef::Text(text)) => std::str::from_utf8(text).map(Some).map_err(|_| self.damaged()),
            Some(ValueRef::Null) => Ok(None),
            _ => Err(self.damaged()),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        self.str().map(str::to_owned)
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>> {
        Ok(self.optional_str()?.map(str::to_owned))
    }

    pub(crate) fn optional_blob(&mut self) -> Result<Option<Vec<u8>>> {
        match self.values.next() {
            Some(ValueRef::Blob(blob)) => Ok(Some(blob.to_vec())),
            Some(ValueRef::Null) => Ok(None),
            _ => Err(self.damaged()),
        }
    }

    pub(crate) fn integer(&mut self) -> Result<i64> {
        match self.values.next() {
            Some(ValueRef::Integer(number)) => Ok(*number),
            _ => Err(self.damaged()),
        }
    }

    pub(crate) fn size(&mut self) -> Result<u64> {
        u64::try_from(self.integer()?).map_err(|_| self.damaged())
    }

    pub(crate) fn time(&mut self) -> Result<SystemTime> {
        self.integer().map(time_of)
    }

    pub(crate) fn optional_time(&mut self) -> Result<Option<SystemTime>> {
        match self.values.next() {
            Some(ValueRef::Integer(number)) => Ok(Some(time_of(*number))),
            Some(ValueRef::Null) => Ok(None),
            _ => Err(self.damaged()),
        }
    }

    pub(crate) fn labels(&mut self) -> Result<Labels> {
        let text = self.str()?;
        if text == "{}" {
            return Ok(Labels::new());
        }
        serde_json::from_str(text).map_err(|_| self.damaged())
    }

    pub(crate) fn parsed<T: std::str::FromStr>(&mut self) -> Result<T> {
        self.str()?.parse().map_err(|_| self.damaged())
    }

    pub(crate) fn any(&mut self) -> Result<Option<Any>> {
        let Some(type_url) = self.optional_text()? else {
            self.values.next();
            return Ok(None);
        };
        match self.values.next() {
            Some(ValueRef::Blob(value)) => {
                Ok(Some(Any { type_url, value: bytes::Bytes::copy_from_slice(value) }))
            }
            _ => Err(self.damaged()),
        }
    }

    pub(crate) fn any_map(&mut self) -> Result<BTreeMap<String, Any>> {
        let Some(ValueRef::Blob(blob)) = self.values.next() else {
            return Err(self.damaged());
        };
        decode_any_map(blob).ok_or_else(|| self.damaged())
    }
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(crate) fn optional_text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.to_owned()))
}

/// A length; SQLite's integers are signed, and no file is longer.
pub(crate) fn size(bytes: u64) -> Value {
    Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Nanoseconds since 1970.
pub(crate) fn time(instant: SystemTime) -> Value {
    Value::Integer(nanoseconds(instant))
}

pub(crate) fn nanoseconds(instant: SystemTime) -> i64 {
    match instant.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

pub(crate) fn time_of(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    if nanoseconds < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// A JSON object.
pub(crate) fn labels(labels: &Labels) -> Value {
    Value::Text(serde_json::to_string(labels).expect("a map of texts is always JSON"))
}

/// Two columns: the name of the type, and the bytes.
pub(crate) fn any(any: Option<&Any>) -> [Value; 2] {
    match any {
        Some(any) => [text(&any.type_url), Value::Blob(any.value.to_vec())],
        None => [Value::Null, Value::Null],
    }
}

/// For each entry its key, type and value, each as a length (four bytes, little-endian) and its bytes.
pub(crate) fn any_map(map: &BTreeMap<String, Any>) -> Value {
    let mut blob = Vec::new();
    for (key, any) in map {
        for part in [key.as_bytes(), any.type_url.as_bytes(), &any.value] {
            let length = u32::try_from(part.len()).expect("a message is shorter than 4 GiB");
            blob.extend_from_slice(&length.to_le_bytes());
            blob.extend_from_slice(part);
        }
    }
    Value::Blob(blob)
}

fn decode_any_map(mut blob: &[u8]) -> Option<BTreeMap<String, Any>> {
    let mut map = BTreeMap::new();
    while !blob.is_empty() {
        let key = String::from_utf8(take_part(&mut blob)?.to_vec()).ok()?;
        let type_url = String::from_utf8(take_part(&mut blob)?.to_vec()).ok()?;
        let value = bytes::Bytes::copy_from_slice(take_part(&mut blob)?);
        map.insert(key, Any { type_url, value });
    }
    Some(map)
}

fn take_part<'a>(blob: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *blob = rest;
    Some(part)
}

#[cfg(test)]
mod tests;
