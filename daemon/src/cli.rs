//! The command line: containerd's flags and subcommands (rows DM01 to DM09).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// How much to log: trace, debug, info, warn, error, fatal or panic
    #[arg(short, long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// Socket for gRPC clients; the ttrpc socket is beside it
    #[arg(short, long, value_name = "SOCKET", global = true, overrides_with = "address")]
    pub address: Option<PathBuf>,
    /// Folder for what must survive a reboot
    #[arg(long, value_name = "FOLDER", global = true)]
    pub root: Option<PathBuf>,
    /// Folder for what a reboot clears
    #[arg(long, value_name = "FOLDER", global = true)]
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
    /// Look for damage in the store, and repair it; through the daemon if one serves it.
    ///
    /// Exit codes: 0 nothing is damaged, 1 damage is left, 2 wrong usage, 3 it could not be done, 4 something has to be
    /// pulled again.
    Fsck(FsckOptions),
    /// Run a program as an OCI hook, with the container's facts in its arguments
    OciHook {
        /// Program and arguments, with {{id}}, {{pid}}, {{bundle}}, {{rootfs}}, {{status}} and {{annotation "key"}}
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

/// How to look for damage, and what to do about it. Nothing is ever deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct FsckOptions {
    /// Set aside what is damaged and drop its rows, so that it can be pulled again
    #[arg(long)]
    pub repair: bool,
    /// With --repair: also snapshots that containers use
    #[arg(long, requires = "repair")]
    pub even_in_use: bool,
    /// First make rows that are missing: from databases that were set aside, and from what describes itself
    #[arg(long)]
    pub rebuild: bool,
    /// At the end accept what is there: the quarantine is over
    #[arg(long)]
    pub accept: bool,
    /// Look only at this; may be given more than once
    #[arg(long, value_name = "PART")]
    pub only: Vec<FsckPart>,
    /// Look only at what this namespace has
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Tell also what is harmless
    #[arg(long)]
    pub notes: bool,
    /// Text for people, or a JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: FsckFormat,
}

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FsckPart {
    /// Blobs against their digests
    Blobs,
    /// Files of snapshots against their manifests
    Trees,
    /// Rows against each other and what they speak of
    Rows,
}

/// How to tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FsckFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
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
