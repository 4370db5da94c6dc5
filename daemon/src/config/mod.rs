//! The configuration: containerd's file format, versions 2 to 4, and what of it applies here.

mod defaults;
mod duration;
mod load;
mod merge;
mod migrate;
mod settings;

pub use load::{LoadError, Loaded, load};
pub use settings::{
    CollectionSettings, DebugSettings, OverlaySettings, Settings, SocketSettings, Timeouts, Tunable,
};

/// The version of the file format that is written; older ones are migrated in memory (row DM30).
pub const CURRENT_VERSION: i64 = 4;

/// Where the configuration is looked for if no path is given.
pub const DEFAULT_PATH: &str = "/etc/corten/config.toml";

/// The configuration with every setting at its default.
#[must_use]
pub fn default_table() -> toml::Table {
    defaults::table()
}

/// The text of a configuration, as `config default` and `config dump` print it.
#[must_use]
pub fn render(table: &toml::Table) -> String {
    toml::to_string_pretty(table).expect("a table that was parsed can be written")
}
