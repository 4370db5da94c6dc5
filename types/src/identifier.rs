//! Names of namespaces, containers, execs and sandboxes (row X05).

use std::{fmt, str::FromStr};

use crate::Error;

/// The longest identifier.
pub const MAX_IDENTIFIER_BYTES: usize = 76;

/// Checks containerd's identifier grammar: letters and digits, joined by single `.`, `_` or `-`.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming `what` and the text.
pub fn validate_identifier(what: &str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::invalid_argument(format!("{what} must not be empty")));
    }
    if text.len() > MAX_IDENTIFIER_BYTES {
        return Err(Error::invalid_argument(format!(
            "{what} {text:?} has {} bytes; at most {MAX_IDENTIFIER_BYTES} are allowed",
            text.len()
        )));
    }
    let well_formed = text
        .split(['.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if !well_formed {
        return Err(Error::invalid_argument(format!(
            "{what} {text:?} must be letters and digits, joined by single '.', '_' or '-'"
        )));
    }
    Ok(())
}

macro_rules! identifier {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                validate_identifier($what, text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:?}", self.0)
            }
        }
    };
}

identifier!(Identifier, "identifier", "A container, exec or sandbox id that follows the grammar of row X05.");
identifier!(Namespace, "namespace", "A namespace's name that follows the grammar of row X05.");
