//! Older versions of the format in terms of the current one (rows DM42 to DM44).

use toml::{Table, Value};

use super::CURRENT_VERSION;

/// Names that version 1 used for plugins.
const SHORT_PLUGIN_NAMES: [(&str, &str); 7] = [
    ("cri", "io.containerd.grpc.v1.cri"),
    ("cgroups", "io.containerd.monitor.v1.cgroups"),
    ("opt", "io.containerd.internal.v1.opt"),
    ("scheduler", "io.containerd.gc.v1.scheduler"),
    ("bolt", "io.containerd.metadata.v1.bolt"),
    ("task", "io.containerd.runtime.v2.task"),
    ("overlayfs", "io.containerd.snapshotter.v1.overlayfs"),
];

/// The version that the file says it has; files that say nothing are version 1.
pub(super) fn version(file: &Table) -> Option<i64> {
    match file.get("version") {
        None => Some(1),
        Some(Value::Integer(version)) => Some((*version).max(1)),
        Some(_) => None,
    }
}

/// Rewrites `file` in place to the current version.
pub(super) fn to_current(file: &mut Table, version: i64) {
    if version < 2 {
        rename_plugins(file);
    }
    if version < 4 {
        move_servers(file);
    }
    file.insert("version".to_owned(), Value::Integer(CURRENT_VERSION));
}

fn rename_plugins(file: &mut Table) {
    let long = |short: &str| {
        SHORT_PLUGIN_NAMES.iter().find(|(name, _)| *name == short).map(|(_, uri)| (*uri).to_owned())
    };
    for list in ["disabled_plugins", "required_plugins"] {
        if let Some(Value::Array(items)) = file.get_mut(list) {
            for item in items {
                if let Some(uri) = item.as_str().and_then(long) {
                    *item = Value::String(uri);
                }
            }
        }
    }
    if let Some(Value::Table(plugins)) = file.get_mut("plugins") {
        *plugins = std::mem::take(plugins)
            .into_iter()
            .map(|(name, table)| (long(&name).unwrap_or(name), table))
            .collect();
    }
}

/// Sections that became the tables of server plugins, with the keys that move.
const SERVERS: [(&str, &[&str]); 4] = [
    ("grpc", &["address", "uid", "gid", "max_recv_message_size", "max_send_message_size"]),
    ("ttrpc", &["address", "uid", "gid"]),
    ("debug", &["address", "uid", "gid"]),
    ("metrics", &["address"]),
];

fn move_servers(file: &mut Table) {
    let no_ttrpc_owner = file.get("ttrpc").and_then(Value::as_table).is_none_or(Table::is_empty);
    let mut moved = Table::new();
    for (section, keys) in SERVERS {
        let Some(Value::Table(table)) = file.get_mut(section) else { continue };
        let mut server = Table::new();
        for key in keys {
            if let Some(value) = table.remove(*key) {
                server.insert((*key).to_owned(), value);
            }
        }
        if table.is_empty() {
            file.remove(section);
        }
        if !server.is_empty() {
            moved.insert(format!("io.containerd.server.v1.{section}"), Value::Table(server));
        }
    }
    // In older files the ttrpc socket belongs to whom the gRPC socket belongs.
    if no_ttrpc_owner && let Some(Value::Table(grpc)) = moved.get("io.containerd.server.v1.grpc").cloned() {
        let owner: Table = grpc.into_iter().filter(|(key, _)| key == "uid" || key == "gid").collect();
        if !owner.is_empty() {
            moved.insert("io.containerd.server.v1.ttrpc".to_owned(), Value::Table(owner));
        }
    }
    if moved.is_empty() {
        return;
    }
    let plugins = file.entry("plugins").or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(plugins) = plugins {
        for (uri, table) in moved {
            plugins.entry(uri).or_insert(table);
        }
    }
}
