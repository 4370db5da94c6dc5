//! What a file costs that survives a power cut, beside one that may not.

use std::{hint::black_box, path::Path};

use corten_disk::Disk;
use criterion::{Criterion, criterion_group, criterion_main};

const BYTES: [u8; 4096] = [7; 4096];

/// As a blob is made: whole under another name first, then renamed.
fn publish(disk: &Disk, folder: &Path, is_durable: bool) -> std::io::Result<()> {
    let (draft, name) = (folder.join("draft"), folder.join("blob"));
    let mut file = disk.create_new(&draft, 0o644)?;
    file.append(&BYTES)?;
    file.set_mode(0o444)?;
    if is_durable {
        file.sync_all()?;
    }
    disk.rename(&draft, &name)?;
    if is_durable {
        disk.sync_folder(folder)?;
    }
    Ok(())
}

fn durable(criterion: &mut Criterion) {
    // A real disk: in memory a sync costs nothing.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder is writable");
    let disk = Disk::new();
    let mut group = criterion.benchmark_group("a file of 4 KiB");
    group.sample_size(20);
    for (name, is_durable) in [("with syncs", true), ("without syncs", false)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| publish(&disk, black_box(folder.path()), is_durable).expect("the disk works"));
        });
    }
    group.finish();
}

criterion_group!(benches, durable);
criterion_main!(benches);
