//! How a client names where output goes.

use std::path::{Path, PathBuf};

use corten_types::{Error, Result};

/// A log helper: the program, its arguments, and whether it must say that it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Helper {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// `binary-v2`: closing the ready pipe without a word is a failure (row H63).
    pub(crate) must_say_ready: bool,
}

/// What kind of thing output goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Nothing was named.
    Null,
    /// A FIFO, or a file that exists.
    Path(PathBuf),
    /// A log file that is appended to.
    File(PathBuf),
    /// A program that reads the output.
    Binary(Helper),
}

impl Scheme {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Ok(Self::Null);
        }
        let Some((scheme, rest)) = name.split_once("://") else { return Ok(Self::Path(name.into())) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = PathBuf::from(decode(path));
        match scheme {
            "fifo" => Ok(Self::Path(path)),
            "file" => Ok(Self::File(path)),
            "binary" | "binary-v2" => Ok(Self::Binary(Helper {
                program: path,
                arguments: arguments(query),
                must_say_ready: scheme == "binary-v2",
            })),
            _ => Err(Error::invalid_argument(format!("unknown STDIO scheme {scheme} in {name:?}"))),
        }
    }
}

/// The path of a name that may carry the scheme of FIFOs.
pub(crate) fn plain(name: &str) -> &Path {
    Path::new(name.strip_prefix("fifo://").unwrap_or(name))
}

/// Each key with its first value (row H62), in the order in which they were written.
fn arguments(query: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let mut words = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")));
        if seen.contains(&key) {
            continue;
        }
        words.push(key.clone());
        if !value.is_empty() {
            words.push(value);
        }
        seen.push(key);
    }
    words
}

/// Percent-encoding, leniently: what is no encoding stands for itself.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let decoded = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
