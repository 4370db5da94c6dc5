//! What is asked for, what came of it, and how that is remembered.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use corten_types::{Error, Labels, Mount, Result};
use serde::{Deserialize, Serialize};

/// How mounts are to be activated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivateOptions {
    /// Labels of the activation: `containerd.io/gc.bref.*` say what keeps it (M07).
    pub labels: Labels,
    /// Everything is mounted, and the caller gets one bind mount of it (M03).
    pub temporary: bool,
    /// Types that the caller handles itself: `loop`, or `format/*` for all that need that transformation.
    pub allowed_types: Vec<String>,
}

/// A mount that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveMount {
    /// What was mounted, after its transformations.
    pub mount: Mount,
    /// When.
    pub mounted_at: SystemTime,
    /// Where: an absolute path. For the type `loop` a link to the device.
    pub mount_point: String,
    /// What its handler says besides.
    pub data: BTreeMap<String, String>,
}

/// Mounts that were activated, under their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The name.
    pub name: String,
    /// What was mounted already, in its order.
    pub active: Vec<ActiveMount>,
    /// What is left for the caller to mount, in this order.
    pub system: Vec<Mount>,
    /// The labels.
    pub labels: Labels,
}

/// What was mounted, without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Performed {
    pub(crate) active: Vec<ActiveMount>,
    pub(crate) system: Vec<Mount>,
}

#[derive(Serialize, Deserialize)]
struct StoredMount {
    r#type: String,
    source: String,
    target: String,
    options: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredActive {
    mount: StoredMount,
    mount_point: String,
    /// Nanoseconds since 1970.
    mounted_at: u64,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    active: Vec<StoredActive>,
    system: Vec<StoredMount>,
}

impl From<&Mount> for StoredMount {
    fn from(mount: &Mount) -> Self {
        let Mount { kind, source, target, options } = mount.clone();
        Self { r#type: kind, source, target, options }
    }
}

impl From<StoredMount> for Mount {
    fn from(mount: StoredMount) -> Self {
        Self { kind: mount.r#type, source: mount.source, target: mount.target, options: mount.options }
    }
}

impl Performed {
    /// The JSON that is kept of it (`docs/formats/mounts.md`).
    pub(crate) fn to_bytes(&self) -> Bytes {
        let active = |active: &ActiveMount| StoredActive {
            mount: (&active.mount).into(),
            mount_point: active.mount_point.clone(),
            mounted_at: nanoseconds(active.mounted_at),
            data: active.data.clone(),
        };
        let stored = Stored {
            active: self.active.iter().map(active).collect(),
            system: self.system.iter().map(StoredMount::from).collect(),
        };
        serde_json::to_vec(&stored).expect("texts, numbers and maps of texts are always JSON").into()
    }

    /// # Errors
    /// `DataLoss` if it is something else.
    pub(crate) fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| {
            Error::data_loss(format!("what is remembered of the activation {name:?} cannot be read"))
                .with_source(error)
        })?;
        let active = |active: StoredActive| ActiveMount {
            mount: active.mount.into(),
            mounted_at: UNIX_EPOCH + Duration::from_nanos(active.mounted_at),
            mount_point: active.mount_point,
            data: active.data,
        };
        Ok(Self {
            active: stored.active.into_iter().map(active).collect(),
            system: stored.system.into_iter().map(Mount::from).collect(),
        })
    }
}

fn nanoseconds(instant: SystemTime) -> u64 {
    let since = instant.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
