//! `containerd.services.introspection.v1.Introspection` (§1.6 of the behaviour table).

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use corten_api::{
    containerd::services::introspection::v1::{
        DeprecationWarning, Plugin as WirePlugin, PluginInfoRequest, PluginInfoResponse, PluginsRequest,
        PluginsResponse, ServerResponse,
        introspection_server::{Introspection, IntrospectionServer},
    },
    convert::{any_from_wire, any_to_wire, timestamp},
    google::rpc,
    status,
};
use corten_filter::{Fields, Filters};
use corten_types::{Any, Error, ErrorKind, Platform, Result};
use tonic::Request;

use super::{
    answer::{Answer, respond},
    serve,
};

/// A part of the daemon, as clients see it (row N02).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plugin {
    /// For example `io.containerd.snapshotter.v1`.
    pub kind: String,
    /// For example `overlayfs`.
    pub id: String,
    /// The kinds of plugins that it needs.
    pub requires: Vec<String>,
    /// What it works for.
    pub platforms: Vec<Platform>,
    /// What it tells, for example `root`.
    pub exports: BTreeMap<String, String>,
    /// What it can do, for example `remap-ids`.
    pub capabilities: Vec<String>,
    /// Why it does not run. Clients show one whose message contains `skip plugin` as skipped (N01).
    pub init_error: Option<(ErrorKind, String)>,
}

/// Something in use that will go away (row N04).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecation {
    /// For example `io.containerd.deprecation/x`.
    pub id: String,
    /// What clients print, on every command.
    pub message: String,
    /// When it was last used.
    pub last_occurrence: SystemTime,
}

/// Tells more about a plugin (row N05).
#[async_trait]
pub trait PluginInfo: Send + Sync {
    /// What the plugin says about `options`.
    ///
    /// # Errors
    /// `Unimplemented` where a plugin says nothing.
    async fn info(&self, kind: &str, id: &str, options: &Any) -> Result<Any>;
}

/// What [`IntrospectionService`] tells.
#[derive(Clone, Default)]
pub struct Identity {
    /// Stable over restarts, 36 characters (row N03).
    pub uuid: String,
    /// Of the daemon.
    pub pid: u32,
    /// The inode of the daemon's pid namespace.
    pub pid_namespace: u64,
    /// Empty, unless every client is to print it.
    pub deprecations: Vec<Deprecation>,
    /// In the order in which they are listed.
    pub plugins: Vec<Plugin>,
    /// Asked when a request brings options; without it no plugin says more.
    pub plugin_info: Option<Arc<dyn PluginInfo>>,
}

/// Tells what the daemon is made of.
#[derive(Clone)]
pub struct IntrospectionService {
    identity: Arc<Identity>,
}

impl IntrospectionService {
    /// Tells `identity`.
    pub fn new(identity: Identity) -> Self {
        Self { identity: Arc::new(identity) }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> IntrospectionServer<Self> {
        serve!(IntrospectionServer, self)
    }
}

#[tonic::async_trait]
impl Introspection for IntrospectionService {
    async fn plugins(&self, request: Request<PluginsRequest>) -> Answer<PluginsResponse> {
        respond(async {
            let filters = Filters::parse(&request.get_ref().filters)?;
            let matching = self.identity.plugins.iter().filter(|plugin| filters.matches(*plugin));
            Ok(PluginsResponse { plugins: matching.cloned().map(to_wire).collect() })
        })
        .await
    }

    async fn server(&self, _: Request<()>) -> Answer<ServerResponse> {
        let warning = |deprecation: &Deprecation| DeprecationWarning {
            id: deprecation.id.clone(),
            message: deprecation.message.clone(),
            last_occurrence: Some(timestamp(deprecation.last_occurrence)),
        };
        respond(async {
            Ok(ServerResponse {
                uuid: self.identity.uuid.clone(),
                pid: u64::from(self.identity.pid),
                pidns: self.identity.pid_namespace,
                deprecations: self.identity.deprecations.iter().map(warning).collect(),
            })
        })
        .await
    }

    async fn plugin_info(&self, request: Request<PluginInfoRequest>) -> Answer<PluginInfoResponse> {
        let PluginInfoRequest { r#type: kind, id, options } = request.into_inner();
        respond(async {
            let found = self.identity.plugins.iter().find(|plugin| plugin.kind == kind && plugin.id == id);
            let plugin = found.ok_or_else(|| Error::not_found(format!("plugin {kind}.{id}")))?;
            if let Some((_, reason)) = &plugin.init_error {
                return Err(Error::failed_precondition(format!("plugin {kind}.{id} does not run: {reason}")));
            }
            let extra = match (options, &self.identity.plugin_info) {
                (None, _) => None,
                (Some(options), Some(source)) => {
                    Some(any_to_wire(source.info(&kind, &id, &any_from_wire(options)).await?))
                }
                (Some(_), None) => {
                    return Err(Error::unimplemented(format!(
                        "plugin {kind}.{id} tells no more about itself"
                    )));
                }
            };
            Ok(PluginInfoResponse { plugin: Some(to_wire(plugin.clone())), extra })
        })
        .await
    }
}

/// Only these two (row N01).
impl Fields for Plugin {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["type", ..] => Some(Cow::Borrowed(&self.kind)),
            ["id", ..] => Some(Cow::Borrowed(&self.id)),
            _ => None,
        }
    }
}

fn to_wire(plugin: Plugin) -> WirePlugin {
    WirePlugin {
        r#type: plugin.kind,
        id: plugin.id,
        requires: plugin.requires,
        platforms: plugin.platforms.into_iter().map(Into::into).collect(),
        exports: plugin.exports,
        capabilities: plugin.capabilities,
        init_err: plugin.init_error.map(|(kind, message)| rpc::Status {
            code: status::code(kind),
            message,
            details: Vec::new(),
        }),
    }
}
