//! What media types say about a layer (rows A01 and A02).

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// How a layer's bytes become a tar archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// They are one.
    Plain,
    /// They may be compressed: their first bytes say how. Docker's types are wrong often enough.
    Detect,
}

impl Encoding {
    /// What the media type says, or nothing if it names no layer that can be read without help.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        let (base, suffixes) = match media_type.split_once('+') {
            Some((base, suffixes)) => (base, suffixes.split('+').collect()),
            None => (media_type, Vec::new()),
        };
        // Only a stream processor that is configured for it can make sense of it.
        if suffixes.contains(&"encrypted") {
            return None;
        }
        match base {
            "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
                Some(if suffixes.is_empty() { Self::Detect } else { Self::Plain })
            }
            LAYER | "application/vnd.oci.image.layer.nondistributable.v1.tar" => {
                // The suffix that sorts last counts, as in containerd.
                let last = suffixes.iter().max();
                Some(if matches!(last, Some(&"gzip" | &"zstd")) { Self::Detect } else { Self::Plain })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_that_may_be_compressed_are_sniffed() {
        for (media_type, expected) in [
            (LAYER, Some(Encoding::Plain)),
            (LAYER_GZIP, Some(Encoding::Detect)),
            (LAYER_ZSTD, Some(Encoding::Detect)),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Encoding::Detect)),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Encoding::Detect)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Encoding::Detect)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Encoding::Detect)),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None),
            ("application/vnd.oci.image.layer.v1.tar+encrypted", None),
            ("application/vnd.oci.image.config.v1+json", None),
            ("application/vnd.erofs.layer.v1", None),
            ("", None),
        ] {
            assert_eq!(Encoding::of(media_type), expected, "{media_type}");
        }
    }
}
