//! Reading configuration files: imports, migration, merging, and what to warn about.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{CURRENT_VERSION, DEFAULT_PATH, defaults, merge, migrate};

/// Why the configuration could not be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not there or not readable.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {}, line {line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of a version that is not known.
    #[error("configuration file {} has an unsupported version; versions up to 4 can be read", path.display())]
    Version {
        /// The file.
        path: PathBuf,
    },
    /// A setting has a value that makes no sense.
    #[error("configuration setting {key}: {reason}")]
    Value {
        /// The setting, with the tables that it is in.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A configuration that was read.
#[derive(Debug)]
pub struct Loaded {
    /// Defaults and files together, in the current version.
    pub table: Table,
    /// What the operator should know, for the log.
    pub warnings: Vec<String>,
}

/// Reads the file at `path` (absolute or relative to the working folder) with its imports, on top of the defaults.
///
/// With no path, the default one is read if it exists (row DM01).
///
/// # Errors
/// See [`LoadError`]. Unknown keys are warnings, not errors (row DM14).
pub fn load(path: Option<&Path>) -> Result<Loaded, LoadError> {
    let mut table = defaults::table();
    let mut warnings = Vec::new();
    let start = path.unwrap_or(Path::new(DEFAULT_PATH));
    let mut files = Files { seen: BTreeSet::new(), merged: Table::new(), warnings: &mut warnings };
    match files.add(start) {
        Err(LoadError::Read { source, .. }) if path.is_none() && source.kind() == io::ErrorKind::NotFound => {
            files.add_imports(&table.clone(), Path::new("/"))?;
        }
        other => other?,
    }
    let merged = files.merged;
    warn_of_unknown_keys(&merged, &mut warnings);
    merge::overlay(&mut table, merged);
    Ok(Loaded { table, warnings })
}

struct Files<'a> {
    seen: BTreeSet<PathBuf>,
    merged: Table,
    warnings: &'a mut Vec<String>,
}

impl Files<'_> {
    fn add(&mut self, path: &Path) -> Result<(), LoadError> {
        // One file may be named in many ways (`a/../b`); imports that form a circle end here.
        let path =
            path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned());
        if !self.seen.insert(path.clone()) {
            return Ok(());
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| LoadError::Read { path: path.clone(), source })?;
        let mut file: Table = toml::from_str(&text).map_err(|error| syntax_error(&path, &text, &error))?;
        let version = migrate::version(&file)
            .filter(|version| *version <= CURRENT_VERSION)
            .ok_or_else(|| LoadError::Version { path: path.clone() })?;
        if version < CURRENT_VERSION {
            migrate::to_current(&mut file, version);
        } else {
            self.warn_of_old_sections(&path, &file);
        }
        let imports = if file.contains_key("imports") { file.clone() } else { defaults::table() };
        merge::merge(&mut self.merged, file);
        self.add_imports(&imports, path.parent().unwrap_or(Path::new("/")))
    }

    fn add_imports(&mut self, file: &Table, folder: &Path) -> Result<(), LoadError> {
        let patterns = file.get("imports").and_then(Value::as_array).cloned().unwrap_or_default();
        for pattern in patterns.iter().filter_map(Value::as_str) {
            for path in expand(&folder.join(pattern)) {
                self.add(&path)?;
            }
        }
        Ok(())
    }

    /// A current file with the old sections is accepted by containerd and has no effect there (row DM44).
    fn warn_of_old_sections(&mut self, path: &Path, file: &Table) {
        for section in ["grpc", "ttrpc", "metrics"] {
            if file.contains_key(section) {
                self.warnings.push(format!(
                    "{}: section [{section}] has no effect in version {CURRENT_VERSION}; use \
                     [plugins.'io.containerd.server.v1.{section}']",
                    path.display()
                ));
            }
        }
    }
}

/// The files that a pattern names: `*` in its last part, sorted; a plain path names itself.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let Some(name) = pattern.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let Some((before, after)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let Some(folder) = pattern.parent() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> LoadError {
    let offset = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
    let reason = error.message().replace('\n', ", ");
    LoadError::Syntax { path: path.to_owned(), line, reason }
}

fn warn_of_unknown_keys(merged: &Table, warnings: &mut Vec<String>) {
    for (key, value) in merged {
        if key == "plugins" {
            let Some(plugins) = value.as_table() else { continue };
            for (uri, settings) in plugins {
                // The sections of plugins that are not built in are kept and say nothing (row P53).
                if !defaults::knows(&["plugins"], uri) {
                    continue;
                }
                for name in settings.as_table().into_iter().flat_map(Table::keys) {
                    if !defaults::knows(&["plugins", uri], name) {
                        warnings
                            .push(format!("ignoring unknown key {name:?} in the section of plugin {uri}"));
                    }
                }
            }
        } else if !defaults::knows(&[], key) {
            warnings.push(format!("ignoring unknown key {key:?}"));
        } else if let Some(section) = value.as_table()
            && !defaults::FREE_TABLES.contains(&key.as_str())
        {
            for name in section.keys().filter(|name| !defaults::knows(&[key], name)) {
                warnings.push(format!("ignoring unknown key \"{key}.{name}\""));
            }
        }
    }
}
