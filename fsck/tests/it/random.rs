//! Random damage: never a panic, never a deletion, found every time, and mended.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use corten_fsck::{Kind, RepairOptions, Report, Request};
use corten_metadata::Table;
use corten_types::Result;
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    damage::{Damage, Target, Way},
    world::{World, damage},
};

/// How many damages, unless `CORTEN_TEST_DAMAGES` says another number.
const DAMAGES: usize = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("the variable is a number"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// What every row of the metadata says.
async fn rows_of(world: &World) -> Result<String> {
    let served = world.serve().await?;
    let mut found = String::new();
    for table in Table::ALL {
        found.push_str(&format!("{:?}", served.metadata.stored(table, None, 10_000).await?.rows));
    }
    for row in served.inspector().rows(0, 10_000)? {
        found.push_str(&format!("{row:?}"));
    }
    served.close().await;
    Ok(found)
}

/// The damages of an ordinary run: those that once showed damage which a repair had hidden. `cargo xtask soak` draws new ones.
const SEED: u64 = 6_363_430_969_931_180_013;

#[test]
fn random_damage_is_found_deletes_nothing_and_is_mended() {
    let seed = number("CORTEN_TEST_SEED").unwrap_or(SEED);
    let rounds = number("CORTEN_TEST_DAMAGES").map_or(DAMAGES, |count| usize::try_from(count).unwrap());
    println!("CORTEN_TEST_SEED={seed} CORTEN_TEST_DAMAGES={rounds}");
    let (worlds, wholes) = runtime().block_on(async {
        let (closed, crashed) = World::closed_and_crashed().await;
        let mut wholes = Vec::new();
        for world in [&closed, &crashed] {
            wholes.push(rows_of(&world.copy()).await.unwrap());
        }
        ([closed, crashed], wholes)
    });
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let runtime = runtime();
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        return;
                    }
                    let at = round % 2;
                    let mut random = StdRng::seed_from_u64(seed.wrapping_add(round as u64));
                    let world = worlds[at].copy();
                    let before = world.files();
                    let damage = Damage::random(&world, &mut random);
                    let story = format!("seed {seed}, round {round}, state {at}: {damage:?}");
                    let try_it = AssertUnwindSafe(|| {
                        runtime.block_on(one_round(&world, &damage, &before, &wholes[at], &story));
                    });
                    if let Err(panic) = std::panic::catch_unwind(try_it) {
                        eprintln!("{story}");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

async fn one_round(
    world: &World,
    done: &Damage,
    before: &BTreeMap<PathBuf, Vec<u8>>,
    whole: &str,
    story: &str,
) {
    let report = world.check().await.unwrap_or_else(|error| panic!("{}: {story}", error.chain()));
    if done.is_done {
        assert_is_found(done, &report, story);
    }
    let found_in_database = report
        .findings
        .iter()
        .any(|finding| matches!(finding.kind, Kind::Quarantine | Kind::DatabaseDamaged | Kind::RowDamaged));

    // As the daemon would go on, with a collection.
    let served = world.serve().await.unwrap_or_else(|error| panic!("{}: {story}", error.chain()));
    let is_healthy = served.metadata.health().is_healthy() && served.inspector().quarantine().is_none();
    // A blob that is gone loses its rows, and what only it referred to may then be collected.
    if (done.target, done.way) != (Target::Blob, Way::Delete) {
        let collected = served.metadata.collect().await;
        assert!(collected.is_ok() || !is_healthy, "{collected:?}: {story}");
    }
    served.close().await;
    assert_nothing_deleted(world, done, before, story);
    if done.is_of_a_database() && is_healthy && !found_in_database {
        let now = rows_of(&world.copy()).await.unwrap();
        assert!(now == *whole, "the damage went unnoticed and is not harmless: {story}");
    }

    let request = Request {
        repair: Some(RepairOptions { even_in_use: true }),
        rebuild: true,
        accept: true,
        ..Request::default()
    };
    let summary =
        world.fsck(&request).await.unwrap_or_else(|error| panic!("repair: {}: {story}", error.chain()));
    let report = world.check().await.unwrap();
    assert!(report.is_clean(), "after {summary:?} there is {:#?}: {story}", damage(&report));
    let served = world.serve().await.unwrap();
    assert!(served.metadata.health().is_healthy(), "{:?}: {story}", served.metadata.health());
    served.close().await;
}

/// Every file is there as it was, but for the one that was damaged.
fn assert_nothing_deleted(world: &World, done: &Damage, before: &BTreeMap<PathBuf, Vec<u8>>, story: &str) {
    let now = world.files();
    for (path, bytes) in before {
        // An ingest that lost its name or its bytes is none any more.
        let is_its_ingest = done.target == Target::Ingest && path.starts_with("content/ingest");
        if *path == done.path || is_its_ingest {
            continue;
        }
        assert_eq!(now.get(path), Some(bytes), "{} is not what it was: {story}", path.display());
    }
}

fn assert_is_found(done: &Damage, report: &Report, story: &str) {
    let kinds: &[Kind] = match (done.target, done.way) {
        (Target::Blob, Way::Extra) => &[Kind::BlobUnknown],
        (Target::Blob, Way::Delete) => &[Kind::BlobMissing],
        (Target::Blob, _) => &[Kind::BlobDamaged],
        (Target::Tree, _) => &[Kind::TreeDamaged],
        (Target::Manifest, Way::Extra) => &[],
        (Target::Manifest, _) => &[Kind::ManifestDamaged],
        _ => &[],
    };
    if kinds.is_empty() {
        return;
    }
    let name = done.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_it = |finding: &corten_fsck::Finding| {
        kinds.contains(&finding.kind)
            && match done.target {
                Target::Blob => finding.thing.to_string().contains(&name),
                // A snapshot's number is the folder below `snapshots`.
                _ => {
                    let id = done.path.components().nth(2).map(|part| part.as_os_str().to_string_lossy());
                    finding.thing.to_string().contains(&format!("/{}", id.unwrap_or_default()))
                }
            }
    };
    assert!(report.findings.iter().any(is_it), "not found: {report:#?}: {story}");
}
