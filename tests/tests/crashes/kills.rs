//! The daemon is killed at random instants.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use corten_tests::{Daemon, DaemonOptions, Kind, eventually, root_or_skip};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{clients, clients::Depth, load, number};

const KILLS: u64 = 50;

/// How long the daemon lives at the most before it is killed: under load, and while it starts.
const LONGEST_LIFE: Duration = Duration::from_millis(600);
const LONGEST_START: Duration = Duration::from_millis(150);

#[test]
fn what_was_acknowledged_is_whole_after_a_kill() {
    if !root_or_skip() {
        return;
    }
    let kills = number("CORTEN_TEST_KILLS").unwrap_or(KILLS);
    let seed = number("CORTEN_TEST_SEED").unwrap_or_else(rand::random);
    println!("CORTEN_TEST_KILLS={kills} CORTEN_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let options = DaemonOptions { kind: Kind::Corten, ..DaemonOptions::default() };
    let mut daemon = Daemon::start_with(options).unwrap();
    let mut clients = clients::all(&mut random, daemon.scratch(), &None);
    for kill in 1..=kills {
        let life = random.random_range(Duration::ZERO..LONGEST_LIFE);
        clients = runtime.block_on(load::work_until_killed(&mut daemon, clients, life));
        if random.random_ratio(1, 3) {
            kill_while_starting(&daemon, random.random_range(Duration::ZERO..LONGEST_START));
        }
        daemon.restart().unwrap();
        println!("kill {kill} after {life:?}");
        let depth = if kill == kills { Depth::All } else { Depth::Fresh };
        clients = runtime.block_on(load::check(clients, &daemon.address(), depth)).unwrap();
    }
    let acknowledged: u64 = clients.iter().map(|client| client.acknowledged()).sum();
    println!("{acknowledged} changes were acknowledged");
    assert!(acknowledged >= kills, "too few changes to prove anything");
    runtime.block_on(load::clear(clients, &daemon.address()));
    let root = daemon.root();
    eventually("what was removed to leave the disk", || on_disk(&root).is_empty().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", on_disk(&root), daemon.log()));
    daemon.finish().unwrap();
}

/// Starts the daemon and kills it, perhaps while it sets right what the last kill left.
fn kill_while_starting(daemon: &Daemon, life: Duration) {
    let log = File::options().append(true).open(daemon.path("log")).unwrap();
    let mut command = daemon.command();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut child = command.spawn().unwrap();
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    println!("and after {life:?} of its start");
}

/// Blobs, ingests and trees.
fn on_disk(root: &Path) -> Vec<PathBuf> {
    let folders = [
        "io.containerd.content.v1.content/blobs/sha256",
        "io.containerd.content.v1.content/ingest",
        "io.containerd.snapshotter.v1.overlayfs/snapshots",
        "io.containerd.snapshotter.v1.native/snapshots",
    ];
    let entries =
        folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).into_iter().flatten());
    entries.map(|entry| entry.unwrap().path()).collect()
}
