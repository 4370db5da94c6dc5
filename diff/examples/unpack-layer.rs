//! Unpacks a layer from a file into a folder as a daemon does it: read, decompressed, hashed and written by threads of
//! their own, and flushed to the disk.
//!
//! `unpack-layer LAYER FOLDER [upper]`: with `upper` the folder is one that overlayfs puts above others.

use std::{error::Error, fs::File, os::unix::fs::FileExt, sync::Arc, time::Instant};

use async_trait::async_trait;
use bytes::Bytes;
use corten_content_store::{Blob, BlobInfo, BlobReader};
use corten_diff::{Applier, ApplyOptions, DifferOptions, WalkingDiffer};
use corten_filter::Filters;
use corten_types::{Descriptor, Digest, Mount, Result};

/// A store with one blob.
struct OneFile(Arc<Layer>);

struct Layer {
    file: File,
    size_bytes: u64,
}

#[async_trait]
impl Blob for Layer {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    async fn read_at(&self, offset_bytes: u64, length: usize) -> Result<Bytes> {
        let mut data = vec![0; length];
        let count = self.file.read_at(&mut data, offset_bytes);
        let count = count.map_err(|error| corten_types::Error::io("cannot read the layer", error))?;
        data.truncate(count);
        Ok(data.into())
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

#[async_trait]
impl BlobReader for OneFile {
    async fn info(&self, digest: &Digest) -> Result<BlobInfo> {
        Err(corten_types::Error::not_found(digest.to_string()))
    }

    async fn open(&self, _: &Digest) -> Result<Arc<dyn Blob>> {
        let blob: Arc<dyn Blob> = self.0.clone();
        Ok(blob)
    }

    async fn list(&self, _: &Filters, _: Option<&Digest>, _: usize) -> Result<Vec<BlobInfo>> {
        Ok(Vec::new())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(layer), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: unpack-layer LAYER FOLDER [upper]".into());
    };
    let file = File::open(layer)?;
    let size_bytes = file.metadata()?.len();
    let store = OneFile(Arc::new(Layer { file, size_bytes }));
    let digest: Digest = format!("sha256:{:064}", 0).parse()?;
    let descriptor = Descriptor::new("application/vnd.docker.image.rootfs.diff.tar.gzip", digest, size_bytes);
    let mount = if arguments.next().is_some() {
        let options = [format!("upperdir={folder}"), "lowerdir=/var/empty".to_owned()];
        Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: options.into(),
        }
    } else {
        Mount {
            kind: "bind".into(),
            source: folder,
            target: String::new(),
            options: vec!["rbind".into(), "rw".into()],
        }
    };
    let differ = WalkingDiffer::new(std::env::temp_dir(), DifferOptions::default());
    let options = ApplyOptions { sync_fs: true, ..ApplyOptions::default() };
    let began = Instant::now();
    let applied = differ.apply(&store, &descriptor, &[mount], options).await?;
    println!("{} {} bytes in {:.3} s", applied.digest, applied.size_bytes, began.elapsed().as_secs_f64());
    Ok(())
}
