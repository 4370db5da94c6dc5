//! Images as files: their layers are made once and kept.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, anyhow};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::recipe::{Content, Recipe};
use crate::client::Blob;

/// Two make layers at once.
const MAKERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// What is in a packed layer.
    pub(super) fn unpack<'a>(self, packed: &'a [u8]) -> anyhow::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Zstd => Box::new(zstd::Decoder::new(packed)?),
        })
    }
}

/// One layer, in memory.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) blob: Blob,
    pub(super) diff_id: String,
    /// The name of the snapshot that it makes on top of the layers below it.
    pub(super) chain_id: String,
}

/// An image, in memory.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) packing: Packing,
    pub(super) layers: Vec<Layer>,
    pub(super) config: Blob,
    pub(super) manifest: Blob,
    /// Entries of all layers, and their bytes as archives.
    pub(super) entries: u64,
    pub(super) plain_bytes: u64,
}

impl Image {
    /// Takes the image from `cache`, or makes it and puts it there.
    pub(super) fn of(recipe: &Recipe, packing: Packing, cache: &Path) -> anyhow::Result<Self> {
        let folder = cache.join("images").join(format!("{}-{}", recipe.name, packing.name()));
        let index = folder.join("index.json");
        if !index.exists() {
            fs::create_dir_all(&folder)?;
            eprintln!("  making {}", folder.display());
            let layers = make(recipe, packing, &folder)?;
            fs::write(&index, serde_json::to_vec(&layers)?)?;
        }
        let layers: Vec<Value> = serde_json::from_slice(&fs::read(&index)?)?;
        Self::load(&recipe.name, packing, &folder, &layers)
    }

    fn load(name: &str, packing: Packing, folder: &Path, kept: &[Value]) -> anyhow::Result<Self> {
        let mut layers: Vec<Layer> = Vec::new();
        let (mut entries, mut plain_bytes) = (0, 0);
        for (number, layer) in kept.iter().enumerate() {
            let word =
                |key: &str| layer[key].as_str().map(str::to_owned).context("a damaged index of an image");
            let (digest, diff_id) = (word("digest")?, word("diff_id")?);
            let bytes = fs::read(folder.join(number.to_string()))?.into();
            let chain_id = match layers.last() {
                None => diff_id.clone(),
                Some(below) => crate::client::digest_of(format!("{} {diff_id}", below.chain_id).as_bytes()),
            };
            layers.push(Layer { blob: Blob { bytes, digest, labels: [].into() }, diff_id, chain_id });
            entries += layer["entries"].as_u64().unwrap_or_default();
            plain_bytes += layer["plain_bytes"].as_u64().unwrap_or_default();
        }
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = Blob::new(serde_json::to_vec(&json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }))?);
        let descriptor = |blob: &Blob, media_type: &str| json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.bytes.len() });
        let descriptors: Vec<Value> =
            layers.iter().map(|layer| descriptor(&layer.blob, packing.media_type())).collect();
        let mut manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"),
            "layers": descriptors,
        }))?);
        for (number, layer) in layers.iter().enumerate() {
            manifest =
                manifest.with_label(&format!("containerd.io/gc.ref.content.l.{number}"), &layer.blob.digest);
        }
        manifest = manifest.with_label("containerd.io/gc.ref.content.config", &config.digest);
        Ok(Self { name: name.to_owned(), packing, layers, config, manifest, entries, plain_bytes })
    }

    /// How large the layers are, in megabytes: packed, and as archives.
    pub(super) fn megabytes(&self) -> (f64, f64) {
        let packed: usize = self.layers.iter().map(|layer| layer.blob.bytes.len()).sum();
        (packed as f64 / 1e6, self.plain_bytes as f64 / 1e6)
    }
}

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Makes the layers and returns what the index says of them.
fn make(recipe: &Recipe, packing: Packing, folder: &Path) -> anyhow::Result<Vec<Value>> {
    let waiting = Mutex::new(recipe.layers.iter().enumerate());
    let results = Mutex::new(vec![Value::Null; recipe.layers.len()]);
    std::thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let next = waiting.lock().map_err(|_| anyhow!("another maker failed"))?.next();
                        let Some((number, content)) = next else { return Ok(()) };
                        let made = make_layer(content, packing, folder.join(number.to_string()))?;
                        results.lock().map_err(|_| anyhow!("another maker failed"))?[number] = made;
                    }
                })
            })
            .collect();
        makers.into_iter().try_for_each(|maker| maker.join().map_err(|_| anyhow!("a maker panicked"))?)
    })?;
    results.into_inner().map_err(|_| anyhow!("a maker failed"))
}

fn make_layer(content: &Content, packing: Packing, path: PathBuf) -> anyhow::Result<Value> {
    let file = Hashing::new(BufWriter::new(File::create(path)?));
    let (entries, plain, packed) = match packing {
        Packing::Gzip => {
            let mut plain = Hashing::new(GzEncoder::new(file, Compression::default()));
            let entries = content.write(&mut plain)?;
            let (encoder, plain) = plain.finish();
            (entries, plain, encoder.finish()?)
        }
        Packing::Zstd => {
            let mut plain = Hashing::new(zstd::Encoder::new(file, 0)?);
            let entries = content.write(&mut plain)?;
            let (encoder, plain) = plain.finish();
            (entries, plain, encoder.finish()?)
        }
    };
    let (mut file, (digest, _)) = packed.finish();
    file.flush()?;
    let (diff_id, plain_bytes) = plain;
    Ok(json!({ "digest": digest, "diff_id": diff_id, "entries": entries, "plain_bytes": plain_bytes }))
}

/// A writer that hashes and counts what goes through it.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    length: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), length: 0 }
    }

    fn finish(self) -> (W, (String, u64)) {
        let digits: String = self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.inner, (format!("sha256:{digits}"), self.length))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
