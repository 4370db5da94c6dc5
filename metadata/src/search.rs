//! Lists of what a filter lets through, decoding only that.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::ControlFlow};

use corten_database::rusqlite::{Connection, types::ValueRef};
use corten_filter::{Fields, Filters};
use corten_types::{Error, Result};
use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::row::{self, Raw, Record};

/// Where a filter's field is in a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'p> {
    /// A column, which an empty text leaves absent.
    Text(usize),
    /// An entry of a column of labels; the parts of its key.
    Entry(usize, &'p [&'p str]),
}

/// A record whose fields can be found in its row.
pub(crate) trait Searchable: Record {
    /// An index that has all columns that filters look at, and those columns by their places in the row: for tables whose
    /// rows are long.
    const SHORT: Option<(&'static str, &'static [usize])> = None;

    /// Where the field at `path` is: the same fields as [`Fields`] of the record has.
    fn place<'p>(path: &'p [&'p str]) -> Option<Place<'p>>;
}

/// Up to `limit` records below `prefix` that match, beginning after `after`.
pub(crate) fn list<T: Searchable>(
    connection: &Connection,
    prefix: &[&str],
    after: Option<&str>,
    limit: usize,
    filters: &Filters,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    if limit == 0 {
        return Ok(found);
    }
    let everything = filters.match_everything();
    if let Some((index, columns)) = T::SHORT.filter(|_| !everything) {
        let key = T::KEYS - 1;
        let mut wanted: Vec<String> = Vec::new();
        row::scan_index::<T>(connection, index, columns, prefix, after, |row| {
            if filters.matches(&Undecoded::<T>::new(row)) {
                wanted.extend(text(row, key).map(str::to_owned));
            }
            if wanted.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        for id in &wanted {
            let keys: Vec<&str> = prefix.iter().copied().chain([id.as_str()]).collect();
            // The index has no checksum of its own: what it says must be what the row says.
            let record = row::get_raw(connection, &keys, |raw: &Raw<'_, T>| {
                filters.matches(&Undecoded::<T>::new(raw.columns())).then(|| raw.decode()).transpose()
            })?;
            found.push(record.flatten().ok_or_else(|| disagreement::<T>(index, &keys))?);
        }
        return Ok(found);
    }
    row::scan_raw(connection, prefix, after, |raw: &Raw<'_, T>| {
        if everything || filters.matches(&Undecoded::<T>::new(raw.columns())) {
            found.push(raw.decode()?);
        }
        Ok(if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found)
}

fn disagreement<T: Searchable>(index: &str, keys: &[&str]) -> Error {
    Error::data_loss(format!(
        "metadata: the index {index} says something else than the row of {} in {}; `cortend fsck --repair` makes it anew",
        keys.join("/"),
        T::TABLE
    ))
}

/// The columns of a row, of which those that no filter looks at may be missing.
struct Undecoded<'a, T> {
    columns: &'a [ValueRef<'a>],
    record: PhantomData<T>,
}

impl<'a, T> Undecoded<'a, T> {
    fn new(columns: &'a [ValueRef<'a>]) -> Self {
        Self { columns, record: PhantomData }
    }
}

impl<T: Searchable> Fields for Undecoded<'_, T> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match T::place(path)? {
            Place::Text(column) => {
                text(self.columns, column).filter(|text| !text.is_empty()).map(Cow::Borrowed)
            }
            Place::Entry(column, [key]) => entry(text(self.columns, column)?, key),
            Place::Entry(column, key) => entry(text(self.columns, column)?, &key.join(".")),
        }
    }
}

/// The text of a column, if it is one.
fn text<'a>(columns: &[ValueRef<'a>], column: usize) -> Option<&'a str> {
    columns.get(column)?.as_str().ok()
}

/// The entry of a JSON object of texts.
fn entry<'t>(object: &'t str, key: &str) -> Option<Cow<'t, str>> {
    // Most keys need no escape, and then they stand in the text as they are.
    let is_plain = key.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if is_plain && !object.contains(key) {
        return None;
    }
    let mut deserializer = serde_json::Deserializer::from_str(object);
    deserializer.deserialize_map(Finder { key, text: PhantomData }).ok().flatten()
}

struct Finder<'k, 't> {
    key: &'k str,
    text: PhantomData<&'t str>,
}

impl<'t> Visitor<'t> for Finder<'_, 't> {
    type Value = Option<Cow<'t, str>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(key)) = map.next_key()? {
            if key == self.key {
                let Text(value) = map.next_value()?;
                found = Some(value);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// A text that is borrowed unless it has escapes.
struct Text<'t>(Cow<'t, str>);

impl<'t> serde::Deserialize<'t> for Text<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'t> Visitor<'t> for TextVisitor {
    type Value = Text<'t>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'t str) -> std::result::Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

#[cfg(test)]
mod tests;
