//! What snapshots cost besides their files: the manifest of a tree of 10,000 files, and measuring how much it takes.

use std::hint::black_box;

use corten_disk::Disk;
use corten_snapshotter::{
    disk_usage,
    manifest::{Entry, Reader, Writer, checksum},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const FILES: usize = 10_000;

fn trees(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let tree = folder.path().join("tree");
    let names: Vec<String> = (0..FILES).map(|number| format!("{}/{number}", number / 100)).collect();
    for name in &names {
        let path = tree.join(name);
        std::fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("there is room");
        std::fs::File::create(path).expect("there is room");
    }
    let (disk, manifest) = (Disk::new(), folder.path().join("manifest"));
    let write = || {
        let mut writer = Writer::create(&disk, &manifest).expect("there is room");
        for name in &names {
            writer
                .put(name.as_bytes(), Entry::File { size_bytes: 0, checksum: checksum(0, name.as_bytes()) });
        }
        writer.seal().expect("there is room")
    };
    let mut group = criterion.benchmark_group("a tree of 10,000 files");
    group.sample_size(20).throughput(Throughput::Elements(FILES as u64));
    group.bench_function("write its manifest", |bencher| bencher.iter(|| black_box(write())));
    write();
    group.bench_function("read its manifest", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::open(&manifest).expect("it was written");
            while let Some(entry) = reader.next_entry().expect("it is whole") {
                black_box(entry);
            }
        });
    });
    group.bench_function("measure it", |bencher| bencher.iter(|| disk_usage(black_box(&tree))));
    group.finish();
}

criterion_group!(benches, trees);
criterion_main!(benches);
