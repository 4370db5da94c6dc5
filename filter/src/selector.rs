//! One selector: a field, and what its value must be.

use regex::Regex;

use crate::{Fields, pattern};

/// What the value of a field must be. Values are bytes, as an escape such as `\xff` need not be UTF-8.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    /// The field alone.
    Present,
    /// `==`
    Equal(Vec<u8>),
    /// `!=`
    NotEqual(Vec<u8>),
    /// `~=`; `None` for an expression that does not compile.
    Matches(Option<Regex>),
}

impl Test {
    pub(crate) fn matching(expression: &[u8]) -> Self {
        Self::Matches(pattern::compile(expression))
    }

    /// `~=` and `!=` take an absent field for the empty text (row F07); the others need it (row F08).
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::Present => value.is_some(),
            Self::Equal(wanted) => value.is_some_and(|value| value.as_bytes() == wanted),
            Self::NotEqual(unwanted) => value.unwrap_or_default().as_bytes() != unwanted,
            Self::Matches(None) => false,
            Self::Matches(Some(regex)) => regex.is_match(value.unwrap_or_default()),
        }
    }
}

/// A field and the test of its value.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// The parts of the path; `None` when one is not UTF-8, which no field is called.
    pub(crate) path: Option<Vec<String>>,
    pub(crate) test: Test,
}

impl Selector {
    pub(crate) fn matches(&self, subject: &dyn Fields) -> bool {
        let Some(path) = &self.path else { return self.test.holds(None) };
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        self.test.holds(subject.field(&parts).as_deref())
    }
}
