//! What a runtime answers.

use std::path::PathBuf;

use serde::Deserialize;

/// What the runtime knows of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ContainerState {
    /// The container's id.
    pub id: String,
    /// The process id of its init; 0 if it has none.
    #[serde(default)]
    pub pid: u32,
    /// `creating`, `created`, `running`, `paused` or `stopped`.
    pub status: String,
    /// Its bundle.
    #[serde(default)]
    pub bundle: PathBuf,
}

/// What the runtime says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Its name, for example `runc`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The commit that it was built from, if it says so.
    pub commit: String,
    /// The version of the runtime specification, if it says so.
    pub specification: String,
}

impl Version {
    /// Reads `name version X`, and `commit: X` and `spec: X` on lines of their own.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut words = lines.next()?.split_whitespace();
        let name = words.next()?.to_owned();
        if words.next()? != "version" {
            return None;
        }
        let mut found = Self { name, version: words.next()?.to_owned(), ..Self::default() };
        for line in lines {
            match line.split_once(": ") {
                Some(("commit", commit)) => found.commit = commit.trim().to_owned(),
                Some(("spec", specification)) => found.specification = specification.trim().to_owned(),
                _ => {}
            }
        }
        Some(found)
    }
}

#[cfg(test)]
#[path = "answers/tests.rs"]
mod tests;
