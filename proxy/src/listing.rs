//! Pages of what a server streams in one go.

use corten_api::grpc::from_status;
use corten_types::{Error, Result};
use tonic::Streaming;

/// The most things that a listing may hold. The protocol knows no pages, so all that match are read for each.
pub const MAX_LISTED: usize = 1 << 20;

/// The first `limit` things after `after`, in order. Servers stream in the order of their keys, but do not promise it.
pub(crate) async fn page<M, T, K: Ord + Clone>(
    mut messages: Streaming<M>,
    read: impl Fn(M) -> Result<Vec<T>>,
    key: impl Fn(&T) -> K,
    after: Option<&K>,
    limit: usize,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    while let Some(message) = messages.message().await.map_err(from_status)? {
        found
            .extend(read(message)?.into_iter().filter(|thing| after.is_none_or(|after| key(thing) > *after)));
        if found.len() > MAX_LISTED {
            return Err(Error::resource_exhausted(format!("a listing has more than {MAX_LISTED} entries")));
        }
    }
    found.sort_by_cached_key(|thing| key(thing));
    found.truncate(limit);
    Ok(found)
}
