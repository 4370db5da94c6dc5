//! The parts of the daemon as clients see them: containerd's names for what is wired here (§2 of the behaviour table).

use std::collections::BTreeMap;

use anyhow::bail;
use corten_server::services::introspection::Plugin;
use corten_types::{Error, ErrorKind, Platform};

/// Services that are on the gRPC socket, by the ids that containerd gives them (row P36).
const SERVICES: [&str; 14] = [
    "containers",
    "content",
    "diff",
    "events",
    "healthcheck",
    "images",
    "introspection",
    "leases",
    "mounts",
    "namespaces",
    "sandboxes",
    "snapshots",
    "tasks",
    "version",
];

/// Parts that are always there and have nothing to say: kind, id, and the kinds that they need.
const PLAIN: [(&str, &str, &[&str]); 8] = [
    ("io.containerd.warning.v1", "deprecations", &[]),
    ("io.containerd.event.v1", "exchange", &[]),
    ("io.containerd.lease.v1", "manager", &["io.containerd.metadata.v1"]),
    ("io.containerd.sandbox.store.v1", "local", &["io.containerd.metadata.v1"]),
    ("io.containerd.shim.v1", "manager", &[]),
    ("io.containerd.server.v1", "grpc", &["io.containerd.grpc.v1"]),
    ("io.containerd.server.v1", "ttrpc", &["io.containerd.ttrpc.v1"]),
    ("io.containerd.service.v1", "diff-service", &["io.containerd.differ.v1"]),
];

/// Collects the parts while they are made.
pub(crate) struct Plugins {
    disabled: Vec<String>,
    listed: Vec<Plugin>,
}

impl Plugins {
    /// None yet. `disabled` are the names, `type.id`, of those that must not be made (row P50).
    pub(crate) fn new(disabled: &[String]) -> Self {
        Self { disabled: disabled.to_vec(), listed: Vec::new() }
    }

    /// Whether the part may be made; one that is disabled is not even listed.
    pub(crate) fn wanted(&self, kind: &str, id: &str) -> bool {
        !self.disabled.contains(&format!("{kind}.{id}"))
    }

    /// Lists a part that works.
    pub(crate) fn add(&mut self, plugin: Plugin) {
        tracing::debug!(kind = plugin.kind, id = plugin.id, "part is ready");
        self.listed.push(plugin);
    }

    /// Lists a part that could not be made; the daemon goes on without it (row DM15). One that this machine cannot have
    /// is shown as skipped (row P54).
    pub(crate) fn add_failed(&mut self, mut plugin: Plugin, error: &Error) {
        let skipped = error.kind() == ErrorKind::Unimplemented;
        let message = if skipped { format!("{}: skip plugin", error.chain()) } else { error.chain() };
        tracing::warn!(kind = plugin.kind, id = plugin.id, error = message, "part is missing");
        plugin.init_error = Some((ErrorKind::Unknown, message));
        self.listed.push(plugin);
    }

    /// The list, with the parts that are always there.
    ///
    /// # Errors
    /// If one of `required` is not there or does not work.
    pub(crate) fn finish(mut self, required: &[String]) -> anyhow::Result<Vec<Plugin>> {
        for (kind, id, requires) in PLAIN {
            self.add(plugin(kind, id, requires));
        }
        for id in SERVICES {
            self.add(plugin("io.containerd.grpc.v1", id, &["io.containerd.service.v1"]));
        }
        for wanted in required {
            let works = |plugin: &Plugin| {
                format!("{}.{}", plugin.kind, plugin.id) == *wanted && plugin.init_error.is_none()
            };
            if !self.listed.iter().any(works) {
                bail!("the required plugin {wanted} is not there; see required_plugins in the configuration");
            }
        }
        Ok(self.listed)
    }
}

/// A part that needs these kinds and says nothing more.
pub(crate) fn plugin(kind: &str, id: &str, requires: &[&str]) -> Plugin {
    Plugin {
        kind: kind.to_owned(),
        id: id.to_owned(),
        requires: requires.iter().map(|kind| (*kind).to_owned()).collect(),
        ..Plugin::default()
    }
}

/// A part that works for the machine's platform and tells these things.
pub(crate) fn local(kind: &str, id: &str, exports: &[(&str, String)], capabilities: Vec<String>) -> Plugin {
    let exports: BTreeMap<_, _> =
        exports.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Plugin { platforms: vec![Platform::host()], exports, capabilities, ..plugin(kind, id, &[]) }
}
