//! The same work without a daemon: reading the layers to nowhere, and copying the tree.

use std::{
    io,
    path::Path,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use sha2::{Digest, Sha256};

use super::image::{Image, Layer};
use crate::filesystem::{Fresh, run, sync};

const CORES: usize = 2;
const BUFFER_BYTES: usize = 256 * 1024;

/// Inflates and hashes the layers on two cores.
pub(super) fn inflate(image: &Image) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    // The largest first: so both cores end at about the same time.
    let mut order: Vec<&Layer> = image.layers.iter().collect();
    order.sort_by_key(|layer| layer.blob.bytes.len());
    let waiting = Mutex::new(order);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..CORES)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let next = waiting.lock().map_err(|_| anyhow!("another reader failed"))?.pop();
                        let Some(layer) = next else { return Ok(()) };
                        let mut hasher = Sha256::new();
                        let mut plain = image.packing.unpack(&layer.blob.bytes)?;
                        let mut buffer = vec![0; BUFFER_BYTES];
                        loop {
                            let length = io::Read::read(&mut plain, &mut buffer)?;
                            if length == 0 {
                                break;
                            }
                            hasher.update(&buffer[..length]);
                        }
                        std::hint::black_box(hasher.finalize());
                    }
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?)
    })?;
    Ok(begin.elapsed())
}

/// Copies `tree` to a fresh filesystem in `folder`, and syncs it.
pub(super) fn copy(tree: &Path, folder: &Path, size_mb: u64) -> anyhow::Result<Duration> {
    let target = Fresh::new(folder, size_mb)?;
    let begin = Instant::now();
    run(Command::new("cp").arg("-a").arg(tree).arg(target.path().join("copy")))?;
    sync(&target.path())?;
    Ok(begin.elapsed())
}
