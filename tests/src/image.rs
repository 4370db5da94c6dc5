//! Real OCI images, made from busybox.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image as an archive in the OCI layout, ready for `ctr images import`.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name that it is imported under.
    pub name: String,
    /// The archive.
    pub archive: PathBuf,
    /// The digest of its manifest.
    pub manifest: String,
    /// The digest of its configuration.
    pub config: String,
    /// The digests of its layers, the lowest first.
    pub layers: Vec<String>,
    /// What the snapshots of its layers are named, the lowest first (OCI image-spec `config.md`).
    pub chain: Vec<String>,
}

/// What a layer has besides folders.
enum Entry<'a> {
    File(&'a str, u32, &'a [u8]),
    Link(&'a str, &'a str),
    Folder(&'a str, u32),
}

impl Image {
    /// Makes an image of busybox, with `sh`, `true`, `cat` and its other commands, and a second small layer.
    ///
    /// # Errors
    /// If Debian's busybox-static is not installed or `folder` cannot be written.
    pub fn busybox(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let busybox = std::fs::read("/bin/busybox").context("read /bin/busybox (package busybox-static)")?;
        let base = layer(|builder| {
            for folder in ["bin", "etc", "proc", "sys", "dev", "root", "home"] {
                append(builder, &Entry::Folder(folder, 0o755))?;
            }
            append(builder, &Entry::Folder("tmp", 0o1777))?;
            append(builder, &Entry::File("bin/busybox", 0o755, &busybox))?;
            for command in COMMANDS {
                append(builder, &Entry::Link(&format!("bin/{command}"), "busybox"))?;
            }
            append(builder, &Entry::File("etc/passwd", 0o644, PASSWD))?;
            append(builder, &Entry::File("etc/group", 0o644, GROUP))
        })?;
        let top = layer(|builder| append(builder, &Entry::File("etc/motd", 0o644, b"made of busybox\n")))?;
        Self::write(folder, name, &[base, top])
    }

    /// Makes an image whose one layer has `count` files of `size_bytes` bytes that do not compress, on top of busybox.
    ///
    /// # Errors
    /// As [`Image::busybox`].
    pub fn bulk(folder: &Path, name: &str, count: usize, size_bytes: usize) -> anyhow::Result<Self> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let layer = layer(|builder| {
            append(builder, &Entry::Folder("bulk", 0o755))?;
            for number in 0..count {
                let mut bytes = Vec::with_capacity(size_bytes + 8);
                while bytes.len() < size_bytes {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    bytes.extend_from_slice(&(state ^ (state >> 33)).to_le_bytes());
                }
                bytes.truncate(size_bytes);
                append(builder, &Entry::File(&format!("bulk/{number}"), 0o644, &bytes))?;
            }
            Ok(())
        })?;
        Self::write(folder, name, &[layer])
    }

    /// Makes an image of these files, a map for each layer, the lowest first.
    ///
    /// # Errors
    /// If `folder` cannot be written.
    pub fn of_files(folder: &Path, name: &str, layers: &[BTreeMap<String, Vec<u8>>]) -> anyhow::Result<Self> {
        let layer_of = |files: &BTreeMap<String, Vec<u8>>| {
            layer(|builder| {
                let entries = files.iter().map(|(name, bytes)| Entry::File(name, 0o644, bytes));
                entries.into_iter().try_for_each(|entry| append(builder, &entry))
            })
        };
        let layers = layers.iter().map(layer_of).collect::<anyhow::Result<Vec<_>>>()?;
        Self::write(folder, name, &layers)
    }

    /// Makes an image of these archives, the lowest first.
    ///
    /// # Errors
    /// If `folder` cannot be written.
    pub fn of_layers(folder: &Path, name: &str, archives: &[Vec<u8>]) -> anyhow::Result<Self> {
        let layers: Vec<_> = archives.iter().map(|plain| pack(plain)).collect::<anyhow::Result<_>>()?;
        Self::write(folder, name, &layers)
    }

    fn write(folder: &Path, name: &str, layers: &[Layer]) -> anyhow::Result<Self> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = serde_json::to_vec(&config)?;
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer.bytes))
            .collect();
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": descriptors,
        }))?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({ "io.containerd.image.name": name });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

        let archive = folder.join(format!("{}.tar", sha256(&manifest)));
        let mut builder = tar::Builder::new(File::create(&archive)?);
        append(&mut builder, &Entry::File("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#))?;
        append(&mut builder, &Entry::File("index.json", 0o644, &index))?;
        let blobs = layers.iter().map(|layer| &layer.bytes).chain([&config, &manifest]);
        for blob in blobs {
            append(&mut builder, &Entry::File(&format!("blobs/sha256/{}", sha256(blob)), 0o644, blob))?;
        }
        builder.into_inner()?.sync_all()?;
        Ok(Self {
            name: name.to_owned(),
            archive,
            manifest: format!("sha256:{}", sha256(&manifest)),
            config: format!("sha256:{}", sha256(&config)),
            chain: chain(&diff_ids),
            layers: layers.iter().map(|layer| format!("sha256:{}", sha256(&layer.bytes))).collect(),
        })
    }
}

fn chain(diff_ids: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => format!("sha256:{}", sha256(format!("{below} {diff_id}").as_bytes())),
            None => diff_id.clone(),
        };
        chain.push(next);
    }
    chain
}

struct Layer {
    bytes: Vec<u8>,
    diff_id: String,
}

fn layer(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>) -> anyhow::Result<()>) -> anyhow::Result<Layer> {
    let mut builder = tar::Builder::new(Vec::new());
    fill(&mut builder)?;
    pack(&builder.into_inner()?)
}

fn pack(plain: &[u8]) -> anyhow::Result<Layer> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain)?;
    Ok(Layer { bytes: encoder.finish()?, diff_id: format!("sha256:{}", sha256(plain)) })
}

fn append<W: Write>(builder: &mut tar::Builder<W>, entry: &Entry<'_>) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(1_700_000_000);
    match entry {
        Entry::File(name, mode, bytes) => {
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes)?;
        }
        Entry::Link(name, target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            builder.append_link(&mut header, name, target)?;
        }
        Entry::Folder(name, mode) => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            builder.append_data(&mut header, format!("{name}/"), std::io::empty())?;
        }
    }
    Ok(())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() })
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

const COMMANDS: [&str; 24] = [
    "sh", "true", "false", "cat", "echo", "sleep", "ls", "id", "env", "stty", "tty", "head", "tail", "dd",
    "ps", "touch", "rm", "mkdir", "mount", "grep", "kill", "test", "wc", "hostname",
];

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/home:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\nguest:x:1000:\n";
