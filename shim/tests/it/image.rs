//! An OCI image with busybox, as an archive.
#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use std::{fmt::Write, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bundle::APPLETS;

/// The image's name.
pub(crate) const IMAGE: &str = "localhost/busybox:1";

/// Writes the image to `path`.
pub(crate) fn write(path: &Path) {
    let layer = layer();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}
    });
    let config = config.to_string().into_bytes();
    let blob = |kind: &str, bytes: &[u8]| -> Value {
        json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", &config),
        "layers": [blob("layer.v1.tar", &layer)]
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = blob("manifest.v1+json", &manifest);
    entry["annotations"] =
        json!({"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let mut archive = tar::Builder::new(Vec::new());
    add_file(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    add_file(&mut archive, "index.json", &index, 0o644);
    for bytes in [&layer, &config, &manifest] {
        add_file(&mut archive, &format!("blobs/{}", digest(bytes).replace(':', "/")), bytes, 0o644);
    }
    std::fs::write(path, archive.into_inner().unwrap()).unwrap();
}

fn layer() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for folder in ["bin/", "proc/", "dev/", "sys/", "tmp/", "etc/"] {
        let mut header = header(tar::EntryType::Directory, 0, 0o755);
        archive.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    add_file(&mut archive, "bin/busybox", &std::fs::read("/bin/busybox").unwrap(), 0o755);
    for applet in APPLETS {
        let mut header = header(tar::EntryType::Symlink, 0, 0o777);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    add_file(&mut archive, "etc/passwd", b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n", 0o644);
    archive.into_inner().unwrap()
}

fn add_file(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) {
    let mut header = header(tar::EntryType::Regular, bytes.len(), mode);
    archive.append_data(&mut header, name, bytes).unwrap();
}

fn header(kind: tar::EntryType, size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(u64::try_from(size).unwrap());
    header.set_mode(mode);
    header
}

fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
