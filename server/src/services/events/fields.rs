//! The fields of events that filters can name (row E04).

use corten_api::{
    containerd::{
        events::{
            ContainerCreate, ContainerDelete, ContainerUpdate, ContentCreate, ContentDelete, NamespaceCreate,
            NamespaceDelete, NamespaceUpdate, SnapshotCommit, SnapshotPrepare, SnapshotRemove,
            TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOom,
            TaskPaused, TaskResumed, TaskStart,
        },
        services::images::v1::{ImageCreate, ImageDelete, ImageUpdate},
    },
    convert::message_of,
};
use corten_events::EventFields;
use corten_types::Any;
use prost::Name;

/// Reads the fields of the events of containers, tasks, content, images, namespaces and snapshots: texts and labels.
/// Events of sandboxes have none that could be named.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiEventFields;

impl EventFields for ApiEventFields {
    fn field(&self, event: &Any, path: &[&str]) -> Option<String> {
        let name = event.type_url.rsplit('/').next().unwrap_or_default();
        let (_, read) =
            READERS.iter().find(|(known, _)| known.0 == package(name) && known.1 == last(name))?;
        // An empty text counts as absent.
        read(event, path).filter(|value| !value.is_empty())
    }
}

fn package(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(package, _)| package)
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

type Reader = fn(&Any, &[&str]) -> Option<String>;

/// A reader of each message: the names of its text fields, and of its labels if it has any.
macro_rules! readers {
    ($($message:ident { $($field:ident),* $(; $labels:ident)? $(| $nested:ident { $($inner:ident),* })? }),* $(,)?) => {
        &[$((
            ($message::PACKAGE, $message::NAME),
            |event, path| {
                let (message, first) = (message_of::<$message>(event).ok()?, *path.first()?);
                $(if first == stringify!($labels) {
                    return message.$labels.get(&path[1..].join(".")).cloned();
                })?
                $(if first == stringify!($nested) {
                    let nested = message.$nested?;
                    return match *path.get(1)? {
                        $(stringify!($inner) => Some(nested.$inner),)*
                        _ => None,
                    };
                })?
                match first {
                    $(stringify!($field) => Some(message.$field),)*
                    _ => None,
                }
            },
        )),*]
    };
}

#[rustfmt::skip]
const READERS: &[((&str, &str), Reader)] = readers! {
    ContainerCreate { id, image | runtime { name } },
    ContainerUpdate { id, image, snapshot_key; labels },
    ContainerDelete { id },
    ContentCreate { digest },
    ContentDelete { digest },
    ImageCreate { name; labels },
    ImageUpdate { name; labels },
    ImageDelete { name },
    NamespaceCreate { name; labels },
    NamespaceUpdate { name; labels },
    NamespaceDelete { name },
    SnapshotPrepare { key, parent, snapshotter },
    SnapshotCommit { key, name, snapshotter },
    SnapshotRemove { key, snapshotter },
    TaskCreate { container_id, bundle, checkpoint | io { stdin, stdout, stderr } },
    TaskStart { container_id },
    TaskDelete { container_id, id },
    TaskExit { container_id, id },
    TaskOom { container_id },
    TaskExecAdded { container_id, exec_id },
    TaskExecStarted { container_id, exec_id },
    TaskPaused { container_id },
    TaskResumed { container_id },
    TaskCheckpointed { container_id, checkpoint },
};

#[cfg(test)]
mod tests;
