//! What names a blob: its media type, digest and size (OCI image-spec, descriptor.md).

use crate::{Digest, Labels};

/// A descriptor of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What the bytes are, for example `application/vnd.oci.image.layer.v1.tar+gzip`.
    pub media_type: String,
    /// The hash of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size_bytes: u64,
    /// Free annotations.
    pub annotations: Labels,
}

impl Descriptor {
    /// A descriptor without annotations.
    pub fn new(media_type: impl Into<String>, digest: Digest, size_bytes: u64) -> Self {
        Self { media_type: media_type.into(), digest, size_bytes, annotations: Labels::new() }
    }
}
