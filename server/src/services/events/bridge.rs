//! What the metadata store tells, as events on the wire.

use corten_api::{
    containerd::{
        events::{
            ContainerCreate, ContainerDelete, ContainerUpdate, ContentCreate, ContentDelete, NamespaceCreate,
            NamespaceDelete, NamespaceUpdate, SnapshotCommit, SnapshotPrepare, SnapshotRemove,
            container_create::Runtime,
        },
        services::images::v1::{ImageCreate, ImageDelete, ImageUpdate},
    },
    convert::{any_of, any_to_wire},
};
use corten_events::Exchange;
use corten_metadata::MetadataEvent;
use corten_types::{Any, Namespace};

/// Publishes what the metadata store tells, under the topics and types of rows E07 and E08.
#[derive(Clone, Debug)]
pub struct EventBridge {
    exchange: Exchange,
}

impl EventBridge {
    /// Publishes to `exchange`.
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange }
    }
}

impl corten_metadata::EventSink for EventBridge {
    fn publish(&self, namespace: &Namespace, event: MetadataEvent) {
        let Some((topic, event)) = encode(event) else { return };
        if let Err(error) = self.exchange.publish(namespace, topic, event) {
            tracing::error!(%error, topic, "an event could not be published");
        }
    }
}

/// The topic and the message; `None` for an event that this version does not know.
fn encode(event: MetadataEvent) -> Option<(&'static str, Any)> {
    use MetadataEvent as Event;
    Some(match event {
        Event::ContainerCreate { id, image, runtime } => {
            let runtime = Runtime { name: runtime.name, options: runtime.options.map(any_to_wire) };
            ("/containers/create", any_of(&ContainerCreate { id, image, runtime: Some(runtime) }))
        }
        Event::ContainerUpdate { id, image, labels, snapshot_key } => {
            ("/containers/update", any_of(&ContainerUpdate { id, image, labels, snapshot_key }))
        }
        Event::ContainerDelete { id } => ("/containers/delete", any_of(&ContainerDelete { id })),
        Event::ImageCreate { name, labels } => ("/images/create", any_of(&ImageCreate { name, labels })),
        Event::ImageUpdate { name, labels } => ("/images/update", any_of(&ImageUpdate { name, labels })),
        Event::ImageDelete { name } => ("/images/delete", any_of(&ImageDelete { name })),
        Event::SnapshotPrepare { key, parent, snapshotter } => {
            ("/snapshot/prepare", any_of(&SnapshotPrepare { key, parent, snapshotter }))
        }
        Event::SnapshotCommit { key, name, snapshotter } => {
            ("/snapshot/commit", any_of(&SnapshotCommit { key, name, snapshotter }))
        }
        Event::SnapshotRemove { key, snapshotter } => {
            ("/snapshot/remove", any_of(&SnapshotRemove { key, snapshotter }))
        }
        Event::ContentCreate { digest, size_bytes } => {
            let size = i64::try_from(size_bytes).unwrap_or(i64::MAX);
            let event = ContentCreate { digest: digest.to_string(), size, media_type: String::new() };
            ("/content/create", any_of(&event))
        }
        Event::ContentDelete { digest } => {
            ("/content/delete", any_of(&ContentDelete { digest: digest.to_string() }))
        }
        Event::NamespaceCreate { name, labels } => {
            ("/namespaces/create", any_of(&NamespaceCreate { name: name.to_string(), labels }))
        }
        Event::NamespaceUpdate { name, labels } => {
            ("/namespaces/update", any_of(&NamespaceUpdate { name: name.to_string(), labels }))
        }
        Event::NamespaceDelete { name } => {
            ("/namespaces/delete", any_of(&NamespaceDelete { name: name.to_string() }))
        }
        _ => return None,
    })
}
