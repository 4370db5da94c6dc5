//! Between protobuf's values and plain ones.

use std::time::{Duration, SystemTime};

use corten_api::containerd as wire;
use corten_types::{Any, Mount};
use prost_types::Timestamp;

pub(crate) fn any_from_wire(any: prost_types::Any) -> Any {
    Any { type_url: any.type_url, value: any.value.into() }
}

pub(crate) fn any_to_wire(any: &Any) -> prost_types::Any {
    prost_types::Any { type_url: any.type_url.clone(), value: any.value.to_vec() }
}

pub(crate) fn mount_to_wire(mount: &Mount) -> wire::types::Mount {
    wire::types::Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}

/// `None` for what Go sends as no time: nothing, year 1, or anything else before 1970 (X10).
pub(crate) fn time_from_wire(stamp: Option<Timestamp>) -> Option<SystemTime> {
    let stamp = stamp?;
    let seconds = u64::try_from(stamp.seconds).ok()?;
    let nanos = u32::try_from(stamp.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

pub(crate) fn time_to_wire(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// The name of a message type, without the host that some clients put before it (X09).
pub(crate) fn type_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}
