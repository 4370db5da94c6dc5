//! The topic of an event (row E01).

use std::{fmt, str::FromStr};

use corten_types::{Error, validate_identifier};

/// The topic of exits: what a queue gives up last.
pub const TASK_EXIT_TOPIC: &str = "/tasks/exit";

/// A topic: one or more components, each after a `/`, that follow the grammar of identifiers.
///
/// ```
/// # use corten_events::Topic;
/// assert!("/tasks/exec-added".parse::<Topic>().is_ok());
/// assert!("tasks/exit".parse::<Topic>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Box<str>);

impl Topic {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is that of a task's exit.
    #[must_use]
    pub fn is_task_exit(&self) -> bool {
        *self.0 == *TASK_EXIT_TOPIC
    }
}

impl FromStr for Topic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::invalid_argument(format!("event topic {text:?} {why}"));
        let components = text.strip_prefix('/').ok_or_else(|| wrong("must begin with '/'"))?;
        if components.is_empty() {
            return Err(wrong("must have at least one component"));
        }
        for component in components.split('/') {
            validate_identifier("component", component)
                .map_err(|error| wrong("has a malformed component").with_source(error))?;
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}
