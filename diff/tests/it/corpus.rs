//! The corpus of the fuzz target, replayed, and changed at random. `CORTEN_TEST_MUTATIONS` says how often.

use std::{fs, path::Path};

use corten_diff::{
    Compression,
    archive::Reader,
    decompressor,
    unpack::{UnpackOptions, Whiteouts, unpack},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    apply::gzip,
    hostile::{Scene, fix_checksum},
    root_or_skip,
};

const DEFAULT_MUTATIONS: usize = 1500;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/layer");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What the fuzz target does: everything that is done to a layer.
fn exercise(scene: &Scene, data: &[u8]) {
    let mut plain = Vec::new();
    if let Ok(reader) = decompressor(data) {
        use std::io::Read;
        // What decompresses to much is another test's.
        let _ = reader.take(1 << 20).read_to_end(&mut plain);
    }
    let mut archive = Reader::new(&plain[..]);
    while let Ok(Some(_)) = archive.next_entry() {
        let _ = archive.read_contents(|_| Ok::<(), corten_diff::archive::ArchiveError>(()));
    }
    for whiteouts in [Whiteouts::Remove, Whiteouts::Overlay { user_xattrs: false }] {
        let options = UnpackOptions {
            whiteouts,
            max_bytes: 1 << 30,
            file_threads: 1,
            lower_layers: vec![scene.path("outside").into()],
            ..UnpackOptions::default()
        };
        let _ = unpack(&plain[..], &scene.root(), &options);
    }
}

fn scene() -> Scene {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("root/d/e")).unwrap();
    scene
}

#[test]
fn the_corpus_neither_panics_nor_escapes() {
    root_or_skip!();
    let corpus = corpus();
    assert!(corpus.len() >= 20, "the corpus is not there");
    let kinds = |compression| corpus.iter().any(|data| Compression::detect(data) == compression);
    assert!(kinds(Compression::None) && kinds(Compression::Gzip) && kinds(Compression::Zstd));
    let scene = scene();
    for data in corpus {
        exercise(&scene, &data);
        scene.assert_untouched();
    }
}

/// Flips, copies, cuts and joins blocks, and mends checksums, or nearly every change would end at one.
fn mutate(random: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let pick = |random: &mut StdRng| corpus[random.random_range(0..corpus.len())].clone();
    let mut data = pick(random);
    for _ in 0..random.random_range(1..6) {
        if data.is_empty() {
            break;
        }
        let at = random.random_range(0..data.len());
        let block = at / 512 * 512;
        match random.random_range(0..7) {
            0 => data[at] ^= 1 << random.random_range(0..8),
            1 => data[at] = random.random(),
            2 => data.truncate(at),
            3 => {
                let other = pick(random);
                data.truncate(block);
                data.extend_from_slice(&other);
            }
            4 => {
                let end = data.len().min(block + 1024);
                let copied = data[block..end].to_vec();
                data.splice(block..block, copied);
            }
            5 => {
                // The fields of a header that decide most.
                let field = [0, 100, 124, 156, 157, 257, 345, 482][random.random_range(0..8)];
                if let Some(byte) = data.get_mut(block + field) {
                    *byte = b"\x00017xgLKS5\xff\x80/"[random.random_range(0..13)];
                }
            }
            _ => {
                let length = random.random_range(0..32).min(data.len() - at);
                random.fill(&mut data[at..at + length]);
            }
        }
        if data.len() >= block + 512 {
            fix_checksum(&mut data[block..block + 512]);
        }
    }
    data
}

#[test]
fn mutations_of_the_corpus_neither_panic_nor_escape() {
    root_or_skip!();
    let count =
        std::env::var("CORTEN_TEST_MUTATIONS").map_or(DEFAULT_MUTATIONS, |count| count.parse().unwrap());
    let seed = std::env::var("CORTEN_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let corpus: Vec<_> = corpus();
    let plain: Vec<_> =
        corpus.iter().filter(|data| Compression::detect(data) == Compression::None).cloned().collect();
    let mut scene = scene();
    for number in 0..count {
        let mut data =
            if number % 8 == 0 { mutate(&mut random, &corpus) } else { mutate(&mut random, &plain) };
        if number % 16 == 1 {
            data = gzip(&data);
        }
        exercise(&scene, &data);
        if number % 50 == 0 {
            scene.assert_untouched();
            // What came together in it makes it slow.
            scene = self::scene();
        }
    }
    scene.assert_untouched();
}
