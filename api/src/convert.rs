//! Messages as the plain types of [`corten_types`], and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use corten_types::{Any, Descriptor, Error, Mount, Platform, Result, UpdateMask};
use prost::Name;
use prost_types::{FieldMask, Timestamp};

use crate::containerd::types as wire;

/// The seconds of Go's zero time, the first instant of the year 1 (row X10).
pub const GO_ZERO_SECONDS: i64 = -62_135_596_800;

/// The nanoseconds of a second.
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A moment as a message.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// A moment as a message, where absence is Go's zero time: what fields such as `exited_at` of a running task hold.
#[must_use]
pub fn timestamp_or_go_zero(time: Option<SystemTime>) -> Timestamp {
    time.map_or(Timestamp { seconds: GO_ZERO_SECONDS, nanos: 0 }, Timestamp::from)
}

/// The moment of a message. Nothing, Go's zero time and what this machine cannot count are all `None`.
#[must_use]
pub fn system_time(timestamp: Option<&Timestamp>) -> Option<SystemTime> {
    let timestamp = timestamp?;
    if timestamp.seconds <= GO_ZERO_SECONDS || !(0..NANOS_PER_SECOND).contains(&i64::from(timestamp.nanos)) {
        return None;
    }
    let nanos = Duration::from_nanos(u64::try_from(timestamp.nanos).ok()?);
    let seconds = Duration::from_secs(timestamp.seconds.unsigned_abs());
    let whole = if timestamp.seconds >= 0 {
        UNIX_EPOCH.checked_add(seconds)
    } else {
        UNIX_EPOCH.checked_sub(seconds)
    };
    whole?.checked_add(nanos)
}

/// A message in an `Any` under its bare full name, without a prefix (row X09).
#[must_use]
pub fn any_of<M: Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: Bytes::from(message.encode_to_vec()) }
}

/// Whether `type_url` names the message `full_name`, bare or behind a prefix such as `type.googleapis.com/`.
#[must_use]
pub fn names_type(type_url: &str, full_name: &str) -> bool {
    type_url.rsplit('/').next() == Some(full_name)
}

/// The message in an `Any`, whose name may be bare or prefixed.
///
/// # Errors
/// [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument) if it holds another type, or bytes that are not such a message.
pub fn message_of<M: Name + Default>(any: &Any) -> Result<M> {
    let wanted = M::full_name();
    if !names_type(&any.type_url, &wanted) {
        return Err(Error::invalid_argument(format!("expected a {wanted}, got {:?}", any.type_url)));
    }
    M::decode(any.value.clone())
        .map_err(|failure| Error::invalid_argument(format!("decode a {wanted}")).with_source(failure))
}

/// Our `Any` as prost's. The bytes are copied unless nobody else holds them.
#[must_use]
pub fn any_to_wire(any: Any) -> prost_types::Any {
    prost_types::Any { type_url: any.type_url, value: any.value.into() }
}

/// Prost's `Any` as ours, without a copy.
#[must_use]
pub fn any_from_wire(any: prost_types::Any) -> Any {
    Any { type_url: any.type_url, value: Bytes::from(any.value) }
}

/// The mask of an update; no mask and an empty one both replace everything (row T02).
#[must_use]
pub fn update_mask(mask: Option<FieldMask>) -> UpdateMask {
    UpdateMask::of(mask.unwrap_or_default().paths)
}

impl From<Mount> for wire::Mount {
    fn from(mount: Mount) -> Self {
        Self { r#type: mount.kind, source: mount.source, target: mount.target, options: mount.options }
    }
}

impl From<wire::Mount> for Mount {
    fn from(mount: wire::Mount) -> Self {
        Self { kind: mount.r#type, source: mount.source, target: mount.target, options: mount.options }
    }
}

impl From<Descriptor> for wire::Descriptor {
    fn from(descriptor: Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type,
            digest: descriptor.digest.to_string(),
            size: i64::try_from(descriptor.size_bytes).unwrap_or(i64::MAX),
            annotations: descriptor.annotations,
        }
    }
}

/// Fails with [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument) on a digest that is none and on a negative size.
impl TryFrom<wire::Descriptor> for Descriptor {
    type Error = Error;

    fn try_from(descriptor: wire::Descriptor) -> Result<Self> {
        let size_bytes = u64::try_from(descriptor.size).map_err(|_| {
            Error::invalid_argument(format!(
                "descriptor of {:?} has the size {}",
                descriptor.digest, descriptor.size
            ))
        })?;
        Ok(Self {
            media_type: descriptor.media_type,
            digest: descriptor.digest.parse()?,
            size_bytes,
            annotations: descriptor.annotations,
        })
    }
}

impl From<Platform> for wire::Platform {
    fn from(platform: Platform) -> Self {
        Self {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            os_version: platform.os_version,
            os_features: Vec::new(),
        }
    }
}

/// The features of the operating system are dropped: nothing here looks at them.
impl From<wire::Platform> for Platform {
    fn from(platform: wire::Platform) -> Self {
        Self {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            os_version: platform.os_version,
        }
    }
}
