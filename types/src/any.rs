//! A value of a type that this project only carries: a URL that names the type, and its bytes.

use bytes::Bytes;

/// Bytes with the name of their type (row X09). They are stored and handed on byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Any {
    /// The name of the type, for example `types.containerd.io/opencontainers/runtime-spec/1/Spec`.
    pub type_url: String,
    /// The encoded value.
    pub value: Bytes,
}
