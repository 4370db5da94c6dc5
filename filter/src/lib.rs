#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod parse;
mod pattern;
mod scan;
mod selector;

use std::borrow::Cow;

use corten_types::Result;

use crate::selector::Selector;

/// Something whose fields a filter can look at.
pub trait Fields {
    /// The value at `path`, for example `["labels", "containerd.io/gc.root"]`; `None` if there is none.
    ///
    /// A label's key that was written without quotes arrives in several parts; join them with dots (row F03).
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>>;
}

/// Filters joined by OR; none at all match everything.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    texts: Vec<String>,
    any_of: Vec<Vec<Selector>>,
}

impl Filters {
    /// Parses every text. Each is a list of selectors joined by `,` (AND); an empty one matches everything, and so
    /// does an empty list (row F02).
    ///
    /// # Errors
    /// [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument) for the first that is malformed, with the position
    /// in bytes and what stands there. A regular expression that does not compile is no error; it never matches.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self> {
        let any_of = texts.iter().map(|text| parse::selectors(text.as_ref())).collect::<Result<_>>()?;
        Ok(Self { texts: texts.iter().map(|text| text.as_ref().to_owned()).collect(), any_of })
    }

    /// Filters that match everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The texts that they were made of, to be sent to somebody else.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether any of the filters matches.
    #[must_use]
    pub fn matches(&self, subject: &dyn Fields) -> bool {
        let matches_all =
            |selectors: &Vec<Selector>| selectors.iter().all(|selector| selector.matches(subject));
        self.any_of.is_empty() || self.any_of.iter().any(matches_all)
    }

    /// Whether everything matches whatever its fields are, so that a listing need not look at them.
    #[must_use]
    pub fn match_everything(&self) -> bool {
        self.any_of.is_empty() || self.any_of.iter().any(Vec::is_empty)
    }
}
