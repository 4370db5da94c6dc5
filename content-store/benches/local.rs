//! Ingest, commit, read and list on a local filesystem. The folder is `CORTEN_BENCH_ROOT`, or that of temporary files.

use std::{
    hint::black_box,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use corten_content_store::{
    BlobReader, BlobWriter, CommitOptions, Hasher, IngestOptions, Ingester, LocalStore,
};
use corten_disk::Disk;
use corten_filter::Filters;
use corten_types::Algorithm;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
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

/// The blobs of the benchmark of listings, and how many a page has.
const LISTED: u32 = 50_000;
const PAGE_LEN: usize = 100;

/// Names alone make a listing slow or fast: the blobs are empty files.
fn listing(criterion: &mut Criterion) {
    let setup = setup();
    let folder = setup.store.root().join("blobs/sha256");
    for number in 0..LISTED {
        let digest = Hasher::digest_of(Algorithm::Sha256, &number.to_le_bytes());
        std::fs::File::create(folder.join(digest.hex())).expect("a file can be made");
    }
    let mut group = criterion.benchmark_group("local");
    group.throughput(Throughput::Elements(LISTED.into())).sample_size(10);
    group.bench_function(BenchmarkId::new("list in pages", LISTED), |bencher| {
        bencher.iter(|| {
            setup.runtime.block_on(async {
                let (mut after, mut count) = (None, 0);
                loop {
                    let page = setup.store.list(&Filters::all(), after.as_ref(), PAGE_LEN).await;
                    let page = page.expect("it lists");
                    count += page.len();
                    let Some(last) = page.last() else { break };
                    after = Some(last.digest.clone());
                }
                assert_eq!(count, LISTED as usize);
            });
        });
    });
    group.finish();
}

/// Small blobs: what a commit costs beside its bytes, alone and from 16 writers.
fn commits(criterion: &mut Criterion) {
    let setup = setup();
    let counter = AtomicU64::new(0);
    let commit = async || {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let mut ingest =
            setup.store.ingest(&number.to_string(), IngestOptions::default()).await.expect("it opens");
        ingest.write(Bytes::copy_from_slice(&number.to_le_bytes())).await.expect("it is written");
        ingest.commit(CommitOptions::default()).await.expect("it is committed");
    };
    let mut group = criterion.benchmark_group("local");
    for writers in [1, 16] {
        group.throughput(Throughput::Elements(writers)).sample_size(10);
        group.bench_function(BenchmarkId::new("commit a small blob", writers), |bencher| {
            bencher.iter(|| setup.runtime.block_on(join_all((0..writers).map(|_| commit()))));
        });
    }
    group.finish();
}

criterion_group!(benches, benchmarks, listing, commits);
criterion_main!(benches);
