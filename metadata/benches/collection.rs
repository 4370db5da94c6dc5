//! A collection of 50,000 blobs and 5,000 snapshots, half of them garbage, while a client keeps creating images; and how
//! long a mark of them takes. `CORTEN_BENCH_BLOBS` sets another number of blobs.
//!
//! Files go below `TMPDIR`: put it on the filesystem whose syncs are to be measured.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use corten_content_store::{CommitOptions, IngestOptions, Ingester, LocalStore};
use corten_disk::Disk;
use corten_metadata::{Image, Metadata, Options, View};
use corten_snapshotter::SnapshotWriter;
use corten_snapshotter_native::NativeSnapshotter;
use corten_types::{Algorithm, Descriptor, Digest, Labels};
use criterion::{Criterion, criterion_group, criterion_main};
use sha2::Digest as _;
use tokio::{runtime::Runtime, task::JoinSet};

const BLOBS: usize = 50_000;
/// Blobs of one image, its manifest and configuration among them. Each image has one snapshot.
const BLOBS_OF_AN_IMAGE: usize = 10;
/// Images that are made at the same time while the store is filled.
const MADE_TOGETHER: usize = 32;
/// Creations that are timed while nothing else happens.
const IDLE_CREATIONS: usize = 2_000;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const REFERENCE: &str = "containerd.io/gc.ref.";

async fn open(root: &Path) -> Metadata {
    let content = LocalStore::open(&root.join("content"), Disk::new()).expect("the content store opens");
    let native = NativeSnapshotter::open(&root.join("native"), Default::default()).expect("it opens");
    let mut options = Options::new(root.join("metadata.db"), Arc::new(content));
    options.snapshotters.insert("native".to_owned(), Arc::new(native));
    options.folders = vec![root.join("content"), root.join("native")];
    options.automatic = false;
    Metadata::open(options).await.expect("the store opens")
}

async fn put(view: &View, text: String, labels: Labels) -> Digest {
    let digest = Digest::from_hash(Algorithm::Sha256, &sha2::Sha256::digest(text.as_bytes()));
    let mut ingest = view.content().ingest(&text, IngestOptions::default()).await.expect("it begins");
    ingest.write(text.into_bytes().into()).await.expect("it is written");
    ingest.commit(CommitOptions { labels, ..CommitOptions::default() }).await.expect("it is committed");
    digest
}

/// Every second image is left without its row.
async fn make_image(view: &View, number: usize) {
    let key = format!("top{number}");
    let snapshots = view.snapshots("native").expect("there is one");
    snapshots.prepare(&format!("draft{number}"), "", Labels::new()).await.expect("it is prepared");
    snapshots.commit(&key, &format!("draft{number}"), Labels::new(), None).await.expect("it is committed");
    let mut references = Labels::new();
    let to_snapshot = Labels::from([(format!("{REFERENCE}snapshot.native"), key)]);
    let config = put(view, format!("config {number}"), to_snapshot).await;
    references.insert(format!("{REFERENCE}content.config"), config.to_string());
    for layer in 0..BLOBS_OF_AN_IMAGE - 2 {
        let digest = put(view, format!("layer {number} {layer}"), Labels::new()).await;
        references.insert(format!("{REFERENCE}content.l.{layer}"), digest.to_string());
    }
    let manifest = put(view, format!("manifest {number}"), references).await;
    if number.is_multiple_of(2) {
        let image = Image::new(format!("localhost/kept:{number}"), Descriptor::new(MANIFEST, manifest, 1));
        view.images().create(image, None).await.expect("it is created");
    }
}

async fn fill(view: &View, images: usize) {
    let mut running = JoinSet::new();
    for number in 0..images {
        let view = view.clone();
        running.spawn(async move { make_image(&view, number).await });
        if running.len() == MADE_TOGETHER {
            running.join_next().await.expect("one runs").expect("it ends");
        }
    }
    running.join_all().await;
}

async fn create(view: &View, number: usize) -> Duration {
    let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
    let image = Image::new(format!("localhost/new:{number}"), Descriptor::new(MANIFEST, digest, 1));
    let started = Instant::now();
    view.images().create(image, None).await.expect("it is created");
    started.elapsed()
}

fn report(what: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: {} creations, half {:?}, p99 {:?}, longest {:?}", times.len(), at(50), at(99), at(100));
    at(99)
}

async fn measure(metadata: &Metadata, view: &View) {
    let mut idle = Vec::new();
    for number in 0..IDLE_CREATIONS {
        idle.push(create(view, number).await);
    }
    let before = report("idle", &mut idle);
    let collection = tokio::spawn({
        let metadata = metadata.clone();
        async move { metadata.collect().await.expect("it collects") }
    });
    let mut busy = Vec::new();
    while !collection.is_finished() {
        busy.push(create(view, IDLE_CREATIONS + busy.len()).await);
    }
    let stats = collection.await.expect("it ends");
    let during = report("while a collection runs", &mut busy);
    println!("p99 ratio {:.2}; {stats:?}", during.as_secs_f64() / before.as_secs_f64());
    let statistics = metadata.database_statistics();
    println!(
        "callers waited up to {} us (99 of 100), {} us at the most, {} of them over 50 ms; {} operations, {} syncs",
        statistics.wait_micros.quantile(0.99),
        statistics.wait_micros.largest(),
        statistics.long_waits,
        statistics.operations,
        statistics.commits,
    );
}

fn benchmark(criterion: &mut Criterion) {
    let blobs = std::env::var("CORTEN_BENCH_BLOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(BLOBS);
    let runtime = Runtime::new().expect("a runtime starts");
    let root = tempfile::tempdir().expect("a folder");
    let root_path = root.path().canonicalize().expect("it is there");
    let started = Instant::now();
    runtime.block_on(async {
        let metadata = open(&root_path).await;
        fill(&metadata.view("bench".parse().expect("a namespace"), None), blobs / BLOBS_OF_AN_IMAGE).await;
        metadata.close().await.expect("it closes");
    });
    println!("{blobs} blobs were made in {:?}", started.elapsed());
    let metadata = runtime.block_on(open(&root_path));
    let view = metadata.view("bench".parse().expect("a namespace"), None);
    runtime.block_on(measure(&metadata, &view));
    // What is left is kept: this is a mark and nothing more.
    let mut group = criterion.benchmark_group("collection");
    group.sample_size(10);
    group.bench_function("mark of the half that is kept", |bencher| {
        bencher.to_async(&runtime).iter(|| async { metadata.collect().await.expect("it collects") });
    });
    group.finish();
    runtime.block_on(metadata.close()).expect("it closes");
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
