//! The grammar, row by row, and its properties.

mod grammar;
mod properties;

use std::{borrow::Cow, collections::BTreeMap};

use corten_filter::{Fields, Filters};

/// A subject like most: a name and labels, whose key is all that follows the first part.
#[derive(Clone, Debug, Default)]
struct Subject {
    fields: BTreeMap<String, String>,
}

impl Subject {
    fn of(fields: &[(&str, &str)]) -> Self {
        Self {
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }
}

impl Fields for Subject {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        self.fields.get(&path.join(".")).map(|value| Cow::Borrowed(value.as_str()))
    }
}

fn matches(filter: &str, fields: &[(&str, &str)]) -> bool {
    Filters::parse(&[filter])
        .unwrap_or_else(|error| panic!("{filter:?}: {error}"))
        .matches(&Subject::of(fields))
}
