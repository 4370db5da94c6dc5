//! Ingest and read on a local filesystem. The folder is `CORTEN_BENCH_ROOT`, or that of temporary files.

use std::{hint::black_box, path::PathBuf};

use bytes::Bytes;
use corten_content_store::{BlobReader, BlobWriter, CommitOptions, IngestOptions, Ingester, LocalStore};
use corten_disk::Disk;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SIZES: [(&str, usize); 3] = [("4 KiB", 4 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20)];
/// As much as a client sends in one message.
const CHUNK_BYTES: usize = 1 << 20;

struct Setup {
    runtime: Runtime,
    store: LocalStore,
    _root: TempDir,
}

fn setup() -> Setup {
    let parent = std::env::var_os("CORTEN_BENCH_ROOT").map_or_else(std::env::temp_dir, PathBuf::from);
    let root = TempDir::new_in(parent).expect("a folder can be made");
    let runtime = Runtime::new().expect("a runtime can be started");
    let store = LocalStore::open(root.path(), Disk::new()).expect("the store opens");
    Setup { runtime, store, _root: root }
}

async fn ingest(store: &LocalStore, bytes: &Bytes) -> corten_types::Digest {
    let mut ingest = store.ingest("bench", IngestOptions::default()).await.expect("it opens");
    for start in (0..bytes.len()).step_by(CHUNK_BYTES) {
        let chunk = bytes.slice(start..bytes.len().min(start + CHUNK_BYTES));
        ingest.write(chunk).await.expect("it is written");
    }
    ingest.commit(CommitOptions::default()).await.expect("it is committed").digest
}

fn benchmarks(criterion: &mut Criterion) {
    let setup = setup();
    for (name, size) in SIZES {
        let bytes = Bytes::from(vec![0x5a; size]);
        let mut group = criterion.benchmark_group("local");
        group.throughput(Throughput::Bytes(size as u64)).sample_size(10);
        group.bench_function(BenchmarkId::new("ingest, commit and delete", name), |bencher| {
            bencher.iter(|| {
                setup.runtime.block_on(async {
                    let digest = ingest(&setup.store, &bytes).await;
                    setup.store.delete(&digest).await.expect("it is deleted");
                });
            });
        });
        let digest = setup.runtime.block_on(ingest(&setup.store, &bytes));
        group.bench_function(BenchmarkId::new("open and read", name), |bencher| {
            bencher.iter(|| {
                setup.runtime.block_on(async {
                    let blob = setup.store.open(&digest).await.expect("it opens");
                    for offset in (0..size).step_by(CHUNK_BYTES) {
                        black_box(blob.read_at(offset as u64, CHUNK_BYTES).await.expect("it is read"));
                    }
                });
            });
        });
        group.finish();
    }
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
