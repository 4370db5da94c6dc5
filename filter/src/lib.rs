//! containerd's filter grammar over anything that can name its fields.

use std::borrow::Cow;

use corten_types::{Error, Result};

/// Something whose fields a filter can look at.
pub trait Fields {
    /// The value at `path`, for example `["labels", "containerd.io/gc.root"]`; `None` if there is none.
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>>;
}

/// Filters joined by OR; none at all match everything.
#[derive(Clone, Debug, Default)]
pub struct Filters(Vec<String>);

impl Filters {
    /// Parses every text.
    ///
    /// # Errors
    /// [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument) for the first that is malformed.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self> {
        if texts.iter().any(|text| text.as_ref().is_empty()) {
            return Ok(Self::default());
        }
        Err(Error::unimplemented("filters"))
    }

    /// Filters that match everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether any of the filters matches.
    #[must_use]
    pub fn matches(&self, _subject: &dyn Fields) -> bool {
        self.0.is_empty()
    }
}
