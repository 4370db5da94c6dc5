//! What comes with a request beside its message: namespace and lease.

use corten_metadata::{Metadata, View};
use corten_types::{Error, Namespace, Result};
use tonic::metadata::MetadataMap;

/// The header that names the namespace (row X03).
pub const NAMESPACE_HEADER: &str = "containerd-namespace";

/// The header that names a lease (row X06).
pub const LEASE_HEADER: &str = "containerd-lease";

/// The namespace of a request: the first value of the header counts (X03).
///
/// # Errors
/// - [`FailedPrecondition`](corten_types::ErrorKind::FailedPrecondition): there is none, or an empty one.
/// - [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument): it breaks the grammar (X05).
pub fn namespace(headers: &MetadataMap) -> Result<Namespace> {
    let Some(value) = headers.get(NAMESPACE_HEADER).filter(|value| !value.is_empty()) else {
        return Err(Error::failed_precondition("namespace is required"));
    };
    let text = value
        .to_str()
        .map_err(|failure| Error::invalid_argument("namespace is no text").with_source(failure))?;
    text.parse()
}

/// The lease of a request. One that does not exist is an error only once something is created under it (X06).
///
/// # Errors
/// [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument): it is no text.
pub fn lease(headers: &MetadataMap) -> Result<Option<String>> {
    let Some(value) = headers.get(LEASE_HEADER).filter(|value| !value.is_empty()) else { return Ok(None) };
    let text =
        value.to_str().map_err(|failure| Error::invalid_argument("lease is no text").with_source(failure))?;
    Ok(Some(text.to_owned()))
}

/// The namespace of a request as its lease sees it.
pub(crate) fn view(metadata: &Metadata, headers: &MetadataMap) -> Result<View> {
    Ok(metadata.view(namespace(headers)?, lease(headers)?))
}
