//! The command line: containerd's flags and subcommands (rows DM01 to DM09).

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Tunable;

/// The API level that is served, with our own version as build metadata (row V01).
pub const VERSION: &str = concat!("v2.4.0+corten.", env!("CARGO_PKG_VERSION"));

/// What was built, where the build says so.
pub const REVISION: &str = match option_env!("CORTEN_REVISION") {
    Some(revision) => revision,
    None => concat!("corten-", env!("CARGO_PKG_VERSION")),
};

/// A container runtime daemon that speaks containerd's protocols.
#[derive(Debug, Parser)]
#[command(name = "cortend", disable_version_flag = true)]
pub struct CommandLine {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How much to log: trace, debug, info, warn, error, fatal or panic
    #[arg(short, long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// Socket for gRPC clients; the ttrpc socket is beside it
    #[arg(short, long, value_name = "SOCKET", global = true, overrides_with = "address")]
    pub address: Option<PathBuf>,
    /// Folder for what must survive a reboot
    #[arg(long, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
    /// Folder for what a reboot clears
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Print the version
    #[arg(short, long)]
    pub version: bool,
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print configurations
    Config {
        /// Which one
        #[command(subcommand)]
        which: ConfigCommand,
    },
    /// Publish an event that is read from standard input, encoded as a protobuf Any
    Publish {
        /// Namespace to publish to
        #[arg(long)]
        namespace: String,
        /// Topic of the event
        #[arg(long)]
        topic: String,
    },
    /// Run a program as an OCI hook, with the container's facts in its arguments
    OciHook {
        /// Program and arguments, with {{id}}, {{pid}}, {{bundle}}, {{rootfs}}, {{status}} and {{annotation "key"}}
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// Which configuration to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// The defaults
    Default,
    /// The configuration in force: defaults, file and imports together
    Dump,
    /// The same, from a file of an older version
    Migrate,
}

impl CommandLine {
    /// What the command line says instead of the file.
    #[must_use]
    pub fn tunable(&self) -> Tunable {
        Tunable {
            root: self.root.clone(),
            state: self.state.clone(),
            address: self.address.clone(),
            log_level: self.log_level.clone(),
        }
    }
}
