//! What image blobs say of each other, as far as rows can be made of it (OCI image-spec).

use corten_content_store::Hasher;
use corten_types::{Algorithm, Digest, Labels};
use serde_json::Value;

/// Larger blobs are layers.
pub(crate) const MOST_BYTES: u64 = 4 << 20;

/// A blob that was understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    /// What it refers to, with the end of the label that says so.
    pub(crate) children: Vec<(String, Digest)>,
    /// The layers of a manifest, in their order.
    pub(crate) layers: Vec<Digest>,
    /// The config of a manifest.
    pub(crate) config: Option<Digest>,
    /// The uncompressed layers of a config.
    pub(crate) diff_ids: Vec<Digest>,
}

/// What the bytes of a blob say; `None` if they are no index, manifest or config.
pub(crate) fn parse(bytes: &[u8]) -> Option<Parsed> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let object = value.as_object()?;
    let digest = |value: &Value| value.get("digest")?.as_str()?.parse::<Digest>().ok();
    let list = |name: &str| object.get(name).and_then(Value::as_array);
    let mut parsed = Parsed::default();
    if let Some(manifests) = list("manifests") {
        let found = manifests.iter().enumerate();
        parsed.children = found.filter_map(|(at, value)| Some((format!("m.{at}"), digest(value)?))).collect();
        return Some(parsed);
    }
    if let (Some(config), Some(layers)) = (object.get("config").and_then(digest), list("layers")) {
        parsed.layers = layers.iter().filter_map(digest).collect();
        parsed.children.push(("config".to_owned(), config.clone()));
        let found = parsed.layers.iter().enumerate();
        parsed.children.extend(found.map(|(at, layer)| (format!("l.{at}"), layer.clone())));
        parsed.config = Some(config);
        return Some(parsed);
    }
    let diff_ids = object.get("rootfs")?.get("diff_ids")?.as_array()?;
    parsed.diff_ids = diff_ids.iter().filter_map(|value| value.as_str()?.parse().ok()).collect();
    Some(parsed)
}

impl Parsed {
    /// The labels by which a collection finds what it refers to.
    pub(crate) fn labels(&self) -> Labels {
        let entries = self.children.iter();
        entries
            .map(|(end, digest)| (format!("containerd.io/gc.ref.content.{end}"), digest.to_string()))
            .collect()
    }

    /// The name of the snapshot that an unpacked image ends in.
    pub(crate) fn chain_id(&self) -> Option<String> {
        let mut ids = self.diff_ids.iter();
        let mut chain = ids.next()?.to_string();
        for id in ids {
            chain = Hasher::digest_of(Algorithm::Sha256, format!("{chain} {id}").as_bytes()).to_string();
        }
        Some(chain)
    }
}

#[cfg(test)]
mod tests;
