//! The settings as the wiring needs them: typed, checked, with the command line's words applied.

use std::{path::PathBuf, time::Duration};

use corten_diff::StreamProcessor;
use toml::{Table, Value};

use super::{LoadError, duration};

/// The longest message where a file says 0 (row X02).
const DEFAULT_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What the command line may say instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Tunable {
    /// `--root`
    pub root: Option<PathBuf>,
    /// `--state`
    pub state: Option<PathBuf>,
    /// `--address`
    pub address: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<String>,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Its absolute path.
    pub address: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What and how to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugSettings {
    /// trace, debug, info, warn, error, fatal or panic.
    pub level: String,
    /// text or json.
    pub format: String,
}

/// The knobs of the collector's scheduler (row P16).
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionSettings {
    /// The largest share of time that collections may take.
    pub pause_threshold: f64,
    /// How many deletions are waited for; 0 collects after each.
    pub deletion_threshold: u64,
    /// How many changes make a collection certain.
    pub mutation_threshold: u64,
    /// How long to wait after a deletion.
    pub schedule_delay: Duration,
    /// How long to wait after the start.
    pub startup_delay: Duration,
}

/// The overlayfs snapshotter (row P07).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlaySettings {
    /// Another folder than the one below the root.
    pub root_path: Option<PathBuf>,
    /// Show the upper folder as a label.
    pub upperdir_label: bool,
    /// Remove folders inside the request instead of in clean-up.
    pub sync_remove: bool,
    /// Offer to change owners by copying.
    pub slow_chown: bool,
    /// Options appended to overlay mounts.
    pub mount_options: Vec<String>,
}

/// How long things may take (row DM38).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Cleaning up after a dead shim.
    pub shim_cleanup: Duration,
    /// Reconnecting to a shim at the start.
    pub shim_load: Duration,
    /// A shim's own end.
    pub shim_shutdown: Duration,
    /// Asking one shim for a task's state in a list.
    pub task_state: Duration,
}

/// Every setting that this daemon acts on.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Durable state.
    pub root: PathBuf,
    /// State that a reboot clears.
    pub state: PathBuf,
    /// The folder for temporary files, if not the system's.
    pub temp: Option<PathBuf>,
    /// The gRPC socket.
    pub grpc: SocketSettings,
    /// The longest message received, in bytes.
    pub max_receive_bytes: usize,
    /// The longest message sent, in bytes.
    pub max_send_bytes: usize,
    /// The ttrpc socket.
    pub ttrpc: SocketSettings,
    /// Logging.
    pub debug: DebugSettings,
    /// The value for `/proc/self/oom_score_adj`; 0 leaves it.
    pub oom_score: i32,
    /// Plugins that are not loaded, as `type.id`.
    pub disabled_plugins: Vec<String>,
    /// Plugins without which the daemon does not start.
    pub required_plugins: Vec<String>,
    /// Whether a blob that one namespace has may be taken by another without its bytes.
    pub shared_content: bool,
    /// The collector.
    pub collection: CollectionSettings,
    /// The overlayfs snapshotter.
    pub overlay: OverlaySettings,
    /// Another folder for the native snapshotter than the one below the root.
    pub native_root: Option<PathBuf>,
    /// Flush the filesystem after every unpack.
    pub sync_fs: bool,
    /// Programs that layers of certain media types go through (rows A01, A04, A05, DM40).
    pub stream_processors: Vec<StreamProcessor>,
    /// What is added to the environment of shims.
    pub shim_env: Vec<String>,
    /// Where shims put their sockets; `None` leaves it to them.
    pub shim_socket_dir: Option<PathBuf>,
    /// Where optional programs are installed (row P03).
    pub opt_path: PathBuf,
    /// Deadlines.
    pub timeouts: Timeouts,
}

impl Settings {
    /// Reads the settings out of a loaded configuration; the command line wins.
    ///
    /// # Errors
    /// [`LoadError::Value`] for a value of the wrong type or one that makes no sense, and for a root that is also
    /// the state folder (row DM31).
    pub fn read(table: &Table, command_line: &Tunable) -> Result<Self, LoadError> {
        let reader = Reader { table };
        let root = absolute(command_line.root.clone().unwrap_or(reader.path(&["root"])?));
        let state = absolute(command_line.state.clone().unwrap_or(reader.path(&["state"])?));
        if root == state {
            return Err(reader.wrong(&["state"], "must not be the same folder as root"));
        }
        let grpc = reader.socket("grpc", command_line.address.as_ref())?;
        let mut ttrpc = reader.socket("ttrpc", None)?;
        if ttrpc.address.as_os_str().is_empty() {
            ttrpc.address = PathBuf::from(format!("{}.ttrpc", grpc.address.display()));
        }
        let bolt = "io.containerd.metadata.v1.bolt";
        let shared_content = match reader.string(&["plugins", bolt, "content_sharing_policy"])?.as_str() {
            "" | "shared" => true,
            "isolated" => false,
            other => {
                let reason = format!("{other:?} is neither 'shared' nor 'isolated'");
                return Err(reader.wrong(&["plugins", bolt, "content_sharing_policy"], &reason));
            }
        };
        let server = "io.containerd.server.v1.grpc";
        let shim = "io.containerd.shim.v1.manager";
        let settings = Self {
            root,
            state,
            temp: reader.optional_path(&["temp"])?,
            max_receive_bytes: reader.size(&["plugins", server, "max_recv_message_size"])?,
            max_send_bytes: reader.size(&["plugins", server, "max_send_message_size"])?,
            grpc,
            ttrpc,
            debug: reader.debug(command_line)?,
            oom_score: reader.number(&["oom_score"])?,
            disabled_plugins: reader.plugin_list("disabled_plugins")?,
            required_plugins: reader.plugin_list("required_plugins")?,
            shared_content,
            collection: reader.collection()?,
            overlay: reader.overlay()?,
            native_root: reader.optional_path(&[
                "plugins",
                "io.containerd.snapshotter.v1.native",
                "root_path",
            ])?,
            sync_fs: reader.switch(&["plugins", "io.containerd.service.v1.diff-service", "sync_fs"])?,
            stream_processors: reader.stream_processors()?,
            shim_env: reader.strings(&["plugins", shim, "env"])?,
            shim_socket_dir: reader.optional_path(&["plugins", shim, "socket_dir"])?,
            opt_path: reader.path(&["plugins", "io.containerd.internal.v1.opt", "path"])?,
            timeouts: reader.timeouts()?,
        };
        Ok(settings)
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

struct Reader<'a> {
    table: &'a Table,
}

impl Reader<'_> {
    fn wrong(&self, path: &[&str], reason: &str) -> LoadError {
        LoadError::Value { key: path.join("."), reason: reason.to_owned() }
    }

    fn get(&self, path: &[&str]) -> Result<&Value, LoadError> {
        let (first, rest) = path.split_first().expect("a setting has a name");
        let mut here = self.table.get(*first);
        for part in rest {
            here = here.and_then(|value| value.get(part));
        }
        here.ok_or_else(|| self.wrong(path, "is missing or inside something that is not a table"))
    }

    fn string(&self, path: &[&str]) -> Result<String, LoadError> {
        let value = self.get(path)?;
        value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(path, "must be a string"))
    }

    fn path(&self, path: &[&str]) -> Result<PathBuf, LoadError> {
        self.string(path).map(PathBuf::from)
    }

    fn optional_path(&self, path: &[&str]) -> Result<Option<PathBuf>, LoadError> {
        Ok(Some(self.path(path)?).filter(|path| !path.as_os_str().is_empty()))
    }

    fn switch(&self, path: &[&str]) -> Result<bool, LoadError> {
        self.get(path)?.as_bool().ok_or_else(|| self.wrong(path, "must be true or false"))
    }

    fn number<T: TryFrom<i64>>(&self, path: &[&str]) -> Result<T, LoadError> {
        let number =
            self.get(path)?.as_integer().ok_or_else(|| self.wrong(path, "must be a whole number"))?;
        T::try_from(number).map_err(|_| self.wrong(path, &format!("{number} is out of range")))
    }

    fn size(&self, path: &[&str]) -> Result<usize, LoadError> {
        match self.number(path)? {
            0 => Ok(DEFAULT_MESSAGE_BYTES),
            size => Ok(size),
        }
    }

    fn strings(&self, path: &[&str]) -> Result<Vec<String>, LoadError> {
        let wrong = || self.wrong(path, "must be an array of strings");
        let items = self.get(path)?.as_array().ok_or_else(wrong)?;
        items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// Entries without a dot are no plugin's name (row P50).
    fn plugin_list(&self, name: &str) -> Result<Vec<String>, LoadError> {
        let list = self.strings(&[name])?;
        match list.iter().find(|item| !item.contains('.')) {
            Some(item) => {
                Err(self
                    .wrong(&[name], &format!("{item:?} is no plugin; give its type and id, joined by a dot")))
            }
            None => Ok(list),
        }
    }

    fn duration(&self, path: &[&str]) -> Result<Duration, LoadError> {
        let value = self.get(path)?;
        let parsed = match value {
            Value::String(text) => duration::parse(text),
            Value::Integer(nanoseconds) => u64::try_from(*nanoseconds).ok().map(Duration::from_nanos),
            _ => None,
        };
        parsed.ok_or_else(|| self.wrong(path, &format!("{value} is no duration such as '10s'")))
    }

    fn socket(&self, server: &str, address: Option<&PathBuf>) -> Result<SocketSettings, LoadError> {
        let uri = format!("io.containerd.server.v1.{server}");
        let configured = self.path(&["plugins", &uri, "address"])?;
        let address = address.cloned().unwrap_or(configured);
        let address = if address.as_os_str().is_empty() { address } else { absolute(address) };
        if server == "grpc" && address.as_os_str().is_empty() {
            return Err(self.wrong(&["plugins", &uri, "address"], "must not be empty"));
        }
        Ok(SocketSettings {
            address,
            uid: self.number(&["plugins", &uri, "uid"])?,
            gid: self.number(&["plugins", &uri, "gid"])?,
        })
    }

    fn debug(&self, command_line: &Tunable) -> Result<DebugSettings, LoadError> {
        let level = match &command_line.log_level {
            Some(level) => level.clone(),
            None => self.string(&["debug", "level"])?,
        };
        let known = ["", "trace", "debug", "info", "warn", "error", "fatal", "panic"];
        if !known.contains(&level.as_str()) {
            let reason = format!("{level:?} is none of trace, debug, info, warn, error, fatal and panic");
            return Err(self.wrong(&["debug", "level"], &reason));
        }
        let format = self.string(&["debug", "format"])?;
        if !["", "text", "json"].contains(&format.as_str()) {
            return Err(self.wrong(&["debug", "format"], &format!("{format:?} is neither text nor json")));
        }
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        Ok(DebugSettings { level: or(level, "info"), format: or(format, "text") })
    }

    fn collection(&self) -> Result<CollectionSettings, LoadError> {
        let uri = "io.containerd.gc.v1.scheduler";
        let threshold = self.get(&["plugins", uri, "pause_threshold"])?;
        let pause_threshold = threshold
            .as_float()
            .or_else(|| threshold.as_integer().map(|number| number as f64))
            .ok_or_else(|| self.wrong(&["plugins", uri, "pause_threshold"], "must be a number"))?;
        Ok(CollectionSettings {
            pause_threshold: pause_threshold.clamp(0.0, 0.5),
            deletion_threshold: self.number(&["plugins", uri, "deletion_threshold"])?,
            mutation_threshold: self.number(&["plugins", uri, "mutation_threshold"])?,
            schedule_delay: self.duration(&["plugins", uri, "schedule_delay"])?,
            startup_delay: self.duration(&["plugins", uri, "startup_delay"])?,
        })
    }

    fn overlay(&self) -> Result<OverlaySettings, LoadError> {
        let uri = "io.containerd.snapshotter.v1.overlayfs";
        Ok(OverlaySettings {
            root_path: self.optional_path(&["plugins", uri, "root_path"])?,
            upperdir_label: self.switch(&["plugins", uri, "upperdir_label"])?,
            sync_remove: self.switch(&["plugins", uri, "sync_remove"])?,
            slow_chown: self.switch(&["plugins", uri, "slow_chown"])?,
            mount_options: self.strings(&["plugins", uri, "mount_options"])?,
        })
    }

    fn stream_processors(&self) -> Result<Vec<StreamProcessor>, LoadError> {
        let section = "stream_processors";
        let table =
            self.get(&[section])?.as_table().ok_or_else(|| self.wrong(&[section], "must be a table"))?;
        let mut all = Vec::new();
        for (id, settings) in table {
            let settings =
                settings.as_table().ok_or_else(|| self.wrong(&[section, id], "must be a table"))?;
            let strings = |key| match settings.contains_key(key) {
                true => self.strings(&[section, id, key]),
                false => Ok(Vec::new()),
            };
            all.push(StreamProcessor {
                id: id.clone(),
                accepts: self.strings(&[section, id, "accepts"])?,
                returns: self.string(&[section, id, "returns"])?,
                path: self.string(&[section, id, "path"])?,
                args: strings("args")?,
                env: strings("env")?,
            });
        }
        Ok(all)
    }

    fn timeouts(&self) -> Result<Timeouts, LoadError> {
        let timeouts = self.get(&["timeouts"])?.as_table().cloned().unwrap_or_default();
        for key in timeouts.keys() {
            self.duration(&["timeouts", key])?;
        }
        Ok(Timeouts {
            shim_cleanup: self.duration(&["timeouts", "io.containerd.timeout.shim.cleanup"])?,
            shim_load: self.duration(&["timeouts", "io.containerd.timeout.shim.load"])?,
            shim_shutdown: self.duration(&["timeouts", "io.containerd.timeout.shim.shutdown"])?,
            task_state: self.duration(&["timeouts", "io.containerd.timeout.task.state"])?,
        })
    }
}
