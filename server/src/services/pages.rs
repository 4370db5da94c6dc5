//! Listings, page by page: no transaction stays open while a client reads.

use std::future::Future;

use corten_types::Result;
use futures::{Stream, TryStreamExt, stream};

/// How many things a page, and a message of a streamed list, holds (rows T03, S09).
pub(crate) const PAGE_LEN: usize = 100;

/// How many things are read at once for an answer that holds all of them: each read is a transaction and a change of
/// threads.
pub(crate) const READ_LEN: usize = 1000;

/// The pages of a listing, none of them empty. `fetch` gets the key after which a page of at most `length` things begins,
/// and `key` tells it for a thing.
pub(crate) fn pages<T, K, F, Fut>(
    length: usize,
    fetch: F,
    key: fn(&T) -> K,
) -> impl Stream<Item = Result<Vec<T>>>
where
    F: Fn(Option<K>) -> Fut,
    Fut: Future<Output = Result<Vec<T>>>,
{
    stream::try_unfold((fetch, Some(None)), move |(fetch, after)| async move {
        let Some(after) = after else { return Ok(None) };
        let page = fetch(after).await?;
        let next = if page.len() < length { None } else { page.last().map(|last| Some(key(last))) };
        Ok(if page.is_empty() { None } else { Some((page, (fetch, next))) })
    })
}

/// All that a listing has, converted.
pub(crate) async fn all<T, U>(
    pages: impl Stream<Item = Result<Vec<T>>>,
    convert: fn(T) -> U,
) -> Result<Vec<U>> {
    let mut result = Vec::new();
    let mut pages = std::pin::pin!(pages);
    while let Some(page) = pages.try_next().await? {
        result.extend(page.into_iter().map(convert));
    }
    Ok(result)
}
