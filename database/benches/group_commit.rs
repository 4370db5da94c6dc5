//! How many operations a second, and how many a sync, with 1, 16 and 64 clients.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use corten_database::{Database, Migration, Options};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

static SCHEMA: &[Migration] =
    &[Migration::sql("rows", "CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT) STRICT")];

/// `count` operations from `clients` threads, each waiting for its answer before the next.
fn run(database: &Arc<Database>, clients: u64, count: u64) -> Duration {
    let left = Arc::new(AtomicU64::new(count));
    let started = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (database, left) = (Arc::clone(database), Arc::clone(&left));
            thread::spawn(move || {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let answer = database.write(|connection| {
                        connection
                            .prepare_cached("INSERT INTO row (text) VALUES (?1)")?
                            .execute(["some text"])?;
                        Ok(connection.last_insert_rowid())
                    });
                    black_box(answer.wait().expect("the disk works"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no client panics");
    }
    started.elapsed()
}

fn group_commit(criterion: &mut Criterion) {
    // A real disk: in memory a sync costs nothing.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder is writable");
    let mut group = criterion.benchmark_group("group commit");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for clients in [1, 16, 64] {
        let options = Options { migrations: SCHEMA, ..Options::default() };
        let path = folder.path().join(format!("{clients}.db"));
        let database = Arc::new(Database::open(&path, options).expect("it opens").0);
        group.bench_function(format!("{clients} clients"), |bencher| {
            bencher.iter_custom(|count| run(&database, clients, count));
        });
        let statistics = database.statistics();
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = statistics.operations as f64 / statistics.commits.max(1) as f64;
        println!(
            "{clients} clients: {ratio:.1} operations a sync; a commit takes up to {} us (half), {} us (99 of 100)",
            statistics.commit_micros.quantile(0.5),
            statistics.commit_micros.quantile(0.99),
        );
    }
    group.finish();
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
