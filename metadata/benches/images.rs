//! Creating, changing and deleting images by one client and by sixteen, and listing ten thousand.

use std::{sync::Arc, time::Duration};

use corten_content_store::LocalStore;
use corten_disk::Disk;
use corten_filter::Filters;
use corten_metadata::{Image, Metadata, Options, View};
use corten_types::{Descriptor, Digest, UpdateMask};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const LISTED: usize = 10_000;

fn image(name: String) -> Image {
    let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
    Image::new(name, Descriptor::new("application/vnd.oci.image.manifest.v1+json", digest, 1))
}

async fn open(root: &std::path::Path) -> Metadata {
    let content = LocalStore::open(&root.join("content"), Disk::new()).expect("the content store opens");
    let mut options = Options::new(root.join("metadata.db"), Arc::new(content));
    options.automatic = false;
    Metadata::open(options).await.expect("the store opens")
}

async fn turn(view: &View, name: String) {
    let images = view.images();
    images.create(image(name.clone()), None).await.expect("it is created");
    images.update(image(name.clone()), &UpdateMask::of(["labels"]), None).await.expect("it is changed");
    images.delete(&name, None).await.expect("it is deleted");
}

fn benchmark(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let root = tempfile::tempdir().expect("a folder");
    let metadata = runtime.block_on(open(root.path()));
    let view = metadata.view("bench".parse().expect("a namespace"), None);
    let mut group = criterion.benchmark_group("create, update and delete an image");
    group.measurement_time(Duration::from_secs(5)).sample_size(20);
    for clients in [1_u64, 16] {
        group.throughput(Throughput::Elements(3 * clients));
        group.bench_function(format!("{clients} clients"), |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                let clients: Vec<_> = (0..clients)
                    .map(|client| {
                        let view = view.clone();
                        tokio::spawn(async move { turn(&view, format!("image{client}")).await })
                    })
                    .collect();
                for client in clients {
                    client.await.expect("a client ends");
                }
            });
        });
    }
    group.finish();
    runtime.block_on(async {
        let creations = (0..LISTED).map(|number| {
            let view = view.clone();
            tokio::spawn(async move {
                let mut listed = image(format!("listed{number}"));
                listed.labels.insert("hundredth".to_owned(), (number % 100).to_string());
                view.images().create(listed, None).await
            })
        });
        for creation in creations.collect::<Vec<_>>() {
            creation.await.expect("a client ends").expect("it is created");
        }
    });
    let mut group = criterion.benchmark_group("list images");
    group.throughput(Throughput::Elements(LISTED as u64));
    for (what, filter, count) in
        [("all", "", LISTED), ("one in a hundred by a label", "labels.hundredth==7", LISTED / 100)]
    {
        let filters = Filters::parse(&[filter]).expect("the filter is well formed");
        group.bench_function(what, |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                let found = view.images().list(&filters, None, usize::MAX).await.expect("they are listed");
                assert_eq!(found.len(), count);
            });
        });
    }
    group.finish();
    runtime.block_on(metadata.close()).expect("the store closes");
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
