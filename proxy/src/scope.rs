//! What every call says about who makes it.

use corten_types::{Error, Namespace, Result};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};

/// The header that names the namespace (row X03).
const NAMESPACE_HEADER: &str = "containerd-namespace";
/// The same for servers that pass it on to ttrpc (row X04).
const TTRPC_NAMESPACE_HEADER: &str = "containerd-namespace-ttrpc";
/// The header that names the lease (row X06).
const LEASE_HEADER: &str = "containerd-lease";

/// The namespace, and perhaps the lease, in which calls are made.
#[derive(Clone, Debug)]
pub struct Scope {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Scope {
    /// Calls in `namespace`, under no lease.
    ///
    /// # Panics
    /// Never: a namespace is made of letters, digits and three signs.
    #[must_use]
    pub fn new(namespace: &Namespace) -> Self {
        let namespace = namespace.as_str().parse().expect("a namespace is plain ASCII");
        Self { namespace, lease: None }
    }

    /// The same under the lease `id`: what is made belongs to it.
    ///
    /// # Errors
    /// [`InvalidArgument`](corten_types::ErrorKind::InvalidArgument): `id` cannot stand in a header.
    pub fn under_lease(mut self, id: &str) -> Result<Self> {
        let lease = id.parse().map_err(|error| {
            Error::invalid_argument(format!("lease {id:?} cannot be named in a header")).with_source(error)
        })?;
        self.lease = Some(lease);
        Ok(self)
    }

    /// A request with the headers.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(NAMESPACE_HEADER, self.namespace.clone());
        headers.insert(TTRPC_NAMESPACE_HEADER, self.namespace.clone());
        if let Some(lease) = &self.lease {
            headers.insert(LEASE_HEADER, lease.clone());
        }
        request
    }
}
