//! Applying layers, beside `tar`. The folder is `CORTEN_BENCH_ROOT`, or that of temporary files.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use corten_content_store::{CommitOptions, IngestOptions, Ingester, LocalStore};
use corten_diff::{
    Applier, ApplyOptions, DifferOptions, WalkingDiffer,
    archive::{EntryKind, Header, Writer},
};
use corten_disk::Disk;
use corten_types::{Descriptor, Mount};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Bytes that compress to about a third, as programs do.
fn contents(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|index| {
            if index % 3 == 0 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            }
            (state >> 59) as u8
        })
        .collect()
}

/// A compressed layer of `count` files of `size` bytes, and how long its archive is.
fn layer(count: usize, size: usize) -> (Vec<u8>, u64) {
    let mut writer = Writer::new(Vec::new());
    for number in 0..count {
        let path = format!("usr/share/d{}/file{number}", number / 100);
        let header = Header { size_bytes: size as u64, ..Header::new(EntryKind::File, path) };
        writer.write_header(&header).expect("memory takes everything");
        writer.write_contents(&contents(size, number as u64)).expect("it is as long as it should be");
    }
    let plain = writer.finish().expect("memory takes everything");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&plain).expect("memory takes everything");
    (encoder.finish().expect("memory takes everything"), plain.len() as u64)
}

struct Setup {
    root: TempDir,
    runtime: Runtime,
    store: LocalStore,
    differ: WalkingDiffer,
}

impl Setup {
    fn new() -> Self {
        let parent = std::env::var_os("CORTEN_BENCH_ROOT").map_or_else(std::env::temp_dir, PathBuf::from);
        let root = TempDir::new_in(parent).expect("a folder can be made");
        let store = LocalStore::open(root.path(), Disk::new()).expect("the store opens");
        let differ = WalkingDiffer::new(root.path().join("mounts"), DifferOptions::default());
        Self { root, runtime: Runtime::new().expect("a runtime can be started"), store, differ }
    }

    fn add(&self, data: &[u8]) -> Descriptor {
        let data = Bytes::copy_from_slice(data);
        let size_bytes = data.len() as u64;
        let info = self.runtime.block_on(async {
            let mut ingest = self.store.ingest("layer", IngestOptions::default()).await.expect("it opens");
            ingest.write(data).await.expect("it is written");
            ingest.commit(CommitOptions::default()).await.expect("it is committed")
        });
        Descriptor::new(GZIP_LAYER, info.digest, size_bytes)
    }

    fn target(&self) -> TempDir {
        TempDir::new_in(self.root.path()).expect("a folder can be made")
    }

    fn apply(&self, layer: &Descriptor, target: &Path) {
        let mount = Mount {
            kind: "bind".into(),
            source: target.to_str().expect("the name is text").into(),
            target: String::new(),
            options: vec!["rbind".into()],
        };
        let mounts = [mount];
        let applied = self.differ.apply(&self.store, layer, &mounts, ApplyOptions::default());
        self.runtime.block_on(applied).expect("the layer is sound");
    }
}

fn benchmarks(criterion: &mut Criterion) {
    let setup = Setup::new();
    for (name, count, size) in
        [("100 files of 1 MiB", 100, 1 << 20), ("10000 files of 1 KiB", 10_000, 1 << 10)]
    {
        let (data, archive_bytes) = layer(count, size);
        let descriptor = setup.add(&data);
        let file = setup.root.path().join("layer.tar.gz");
        std::fs::File::create(&file).and_then(|mut file| file.write_all(&data)).expect("it is written");
        let mut group = criterion.benchmark_group("apply");
        group.throughput(Throughput::Bytes(archive_bytes)).sample_size(10);
        group.bench_function(BenchmarkId::new("corten", name), |bencher| {
            let run = |target: TempDir| {
                setup.apply(&descriptor, target.path());
                target
            };
            bencher.iter_batched(|| setup.target(), run, BatchSize::PerIteration);
        });
        group.bench_function(BenchmarkId::new("tar", name), |bencher| {
            let run = |target: TempDir| {
                let status =
                    Command::new("tar").arg("-xpzf").arg(&file).arg("-C").arg(target.path()).status();
                assert!(status.expect("tar is installed").success());
                target
            };
            bencher.iter_batched(|| setup.target(), run, BatchSize::PerIteration);
        });
        group.finish();
    }
}

criterion_group!(all, benchmarks);
criterion_main!(all);
