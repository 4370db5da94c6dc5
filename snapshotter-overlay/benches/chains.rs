//! How long it takes to prepare a snapshot and to remove it again, on chains of 1, 20 and 100 layers, and to commit one.

use std::hint::black_box;

use corten_snapshotter::{SnapshotKeeper, SnapshotWriter};
use corten_snapshotter_overlay::{Options, OverlaySnapshotter};
use corten_types::{Labels, Result};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const LONGEST_CHAIN: usize = 100;

async fn chain(snapshots: &OverlaySnapshotter) -> Result<()> {
    let mut parent = String::new();
    for depth in 1..=LONGEST_CHAIN {
        let name = format!("layer-{depth}");
        snapshots.prepare("active", &parent, Labels::new()).await?;
        snapshots.commit(&name, "active", Labels::new(), None).await?;
        parent = name;
    }
    Ok(())
}

fn prepare_and_remove(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let runtime = Runtime::new().expect("a runtime can be started");
    let snapshots = OverlaySnapshotter::open(folder.path(), Options::default()).expect("it opens");
    runtime.block_on(chain(&snapshots)).expect("a chain can be made");
    let mut group = criterion.benchmark_group("prepare and remove");
    for depth in [1, 20, LONGEST_CHAIN] {
        let parent = format!("layer-{depth}");
        group.bench_with_input(BenchmarkId::from_parameter(depth), &parent, |bencher, parent| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mounts =
                        snapshots.prepare("key", parent, Labels::new()).await.expect("it can be prepared");
                    snapshots.remove("key").await.expect("it can be removed");
                    black_box(mounts)
                })
            });
        });
    }
    group.finish();
}

fn commit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let runtime = Runtime::new().expect("a runtime can be started");
    let snapshots = OverlaySnapshotter::open(folder.path(), Options::default()).expect("it opens");
    criterion.bench_function("prepare, commit and remove", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                snapshots.prepare("key", "", Labels::new()).await.expect("it can be prepared");
                snapshots.commit("name", "key", Labels::new(), None).await.expect("it can be committed");
                snapshots.remove("name").await.expect("it can be removed");
            })
        });
    });
}

criterion_group!(benches, prepare_and_remove, commit);
criterion_main!(benches);
