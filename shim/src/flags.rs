//! The command line, as containerd writes it (Go's flag syntax).

use std::path::PathBuf;

use corten_types::{Error, Result, validate_identifier};

/// What the shim is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a shim, or find the one of the group, and print its address.
    Start,
    /// Clean up after a shim that died.
    Delete,
    /// Print what the runtime can do.
    Info,
    /// Print the version.
    Version,
    /// Be the shim.
    #[default]
    Serve,
}

/// The parsed command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) action: Action,
    pub(crate) id: String,
    pub(crate) namespace: String,
    /// The daemon's gRPC address.
    pub(crate) address: String,
    pub(crate) publish_binary: String,
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) debug: bool,
}

impl Flags {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut flags = Self::default();
        let mut arguments = arguments.into_iter();
        let mut action = None;
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
                action = Some(argument);
                break;
            };
            let (name, mut value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if flags.switch(name, value.as_deref())? {
                continue;
            }
            if value.is_none() {
                value = arguments.next();
            }
            let value =
                value.ok_or_else(|| Error::invalid_argument(format!("flag needs an argument: -{name}")))?;
            flags.set(name, value)?;
        }
        match action.as_deref() {
            Some("start") => flags.action = Action::Start,
            Some("delete") => flags.action = Action::Delete,
            _ => {}
        }
        if matches!(flags.action, Action::Start | Action::Delete | Action::Serve) {
            validate_identifier("the shim's -namespace", &flags.namespace)?;
            // The id is a folder's name; containerd's own check of ids was made by the daemon.
            if flags.id.is_empty() || flags.id.contains('/') || flags.id.starts_with('.') {
                return Err(Error::invalid_argument(format!("the shim's -id {:?} cannot be used", flags.id)));
            }
        }
        Ok(flags)
    }

    /// Takes a flag without an argument. False if `name` is none.
    fn switch(&mut self, name: &str, value: Option<&str>) -> Result<bool> {
        let wanted = match value {
            None | Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(_) if !matches!(name, "debug" | "v" | "version" | "info") => false,
            Some(other) => {
                return Err(Error::invalid_argument(format!("invalid boolean value {other:?} for -{name}")));
            }
        };
        match name {
            "debug" => self.debug = wanted,
            "v" | "version" if wanted => self.action = Action::Version,
            "info" if wanted => self.action = Action::Info,
            "v" | "version" | "info" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        match name {
            "id" => self.id = value,
            "namespace" => self.namespace = value,
            "address" => self.address = value,
            "publish-binary" => self.publish_binary = value,
            "bundle" => self.bundle = (!value.is_empty()).then(|| value.into()),
            // Daemons may name sockets; ours follow from the address, the namespace and the group.
            "socket" | "debug-socket" => {}
            _ => return Err(Error::invalid_argument(format!("flag provided but not defined: -{name}"))),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "flags/tests.rs"]
mod tests;
