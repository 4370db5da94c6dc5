//! The daemon is killed at random instants while clients work. A ledger in this process knows what they were told: that is there
//! after the restart, byte for byte, and of the rest nothing is there by halves.
//!
//! `CORTEN_TEST_KILLS` sets how often (10), `CORTEN_TEST_SEED` what the clients do; when the kills come is up to the machine.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests stop at the first surprise")]

mod blobs;
mod images;
mod ledger;
mod session;
mod snapshots;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use corten_tests::{Daemon, DaemonOptions, Kind, eventually, root_or_skip};
use corten_types::Result;
use rand::{Rng, SeedableRng, rngs::StdRng};

use blobs::Blobs;
use images::Images;
use session::Session;
use snapshots::Snapshots;

const KILLS: u64 = 10;

/// How long the daemon lives at the most before it is killed: under load, and while it starts.
const LONGEST_LIFE: Duration = Duration::from_secs(1);
const LONGEST_START: Duration = Duration::from_millis(150);

/// A client with a namespace and a ledger of its own.
#[async_trait]
trait Client: Send {
    fn namespace(&self) -> String;

    /// How many changes were acknowledged.
    fn acknowledged(&self) -> u64;

    /// A few calls. The first that fails ends them, and then the daemon was killed.
    async fn step(&mut self, session: &Session) -> Result<()>;

    /// Compares everything that the daemon has with the ledger, after a restart; `all` reads also what was read before.
    async fn check(&mut self, session: &Session, all: bool);

    /// Removes everything.
    async fn clear(&mut self, session: &Session);
}

type Clients = Vec<Box<dyn Client>>;

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
    let mut clients = clients(&mut random, daemon.scratch());
    for kill in 1..=kills {
        let life = random.random_range(Duration::ZERO..LONGEST_LIFE);
        clients = runtime.block_on(work_until_killed(&mut daemon, clients, life));
        if random.random_ratio(1, 3) {
            kill_while_starting(&daemon, random.random_range(Duration::ZERO..LONGEST_START));
        }
        daemon.restart().unwrap();
        println!("kill {kill} after {life:?}");
        clients = runtime.block_on(check(clients, &daemon.address(), kill == kills));
    }
    let acknowledged: u64 = clients.iter().map(|client| client.acknowledged()).sum();
    println!("{acknowledged} changes were acknowledged");
    assert!(acknowledged >= kills, "too few changes to prove anything");
    runtime.block_on(clear(clients, &daemon.address()));
    let root = daemon.root();
    eventually("what was removed to leave the disk", || on_disk(&root).is_empty().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", on_disk(&root), daemon.log()));
    daemon.finish().unwrap();
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Two that keep the same blobs in two namespaces, and one of each other kind.
fn clients(random: &mut StdRng, scratch: &Path) -> Clients {
    let mut next = || StdRng::from_rng(random);
    vec![
        Box::new(Blobs::new("blobs-0", next())),
        Box::new(Blobs::new("blobs-1", next())),
        Box::new(Images::new(next())),
        Box::new(Snapshots::new("overlayfs", scratch, next())),
        Box::new(Snapshots::new("native", scratch, next())),
    ]
}

async fn work_until_killed(daemon: &mut Daemon, clients: Clients, life: Duration) -> Clients {
    let killed = Arc::new(AtomicBool::new(false));
    let work = |mut client: Box<dyn Client>| {
        let (killed, session) = (Arc::clone(&killed), Session::open(&daemon.address(), &client.namespace()));
        tokio::spawn(async move {
            loop {
                if let Err(error) = client.step(&session).await {
                    assert!(killed.load(Ordering::SeqCst), "{}: {error:?}", client.namespace());
                    return client;
                }
            }
        })
    };
    let tasks: Vec<_> = clients.into_iter().map(work).collect();
    // Not to wait for something: this is the instant of the kill.
    tokio::time::sleep(life).await;
    killed.store(true, Ordering::SeqCst);
    daemon.kill().unwrap();
    let mut clients = Clients::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    clients
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

async fn check(clients: Clients, socket: &Path, all: bool) -> Clients {
    let check = |mut client: Box<dyn Client>| {
        let session = Session::open(socket, &client.namespace());
        tokio::spawn(async move {
            client.check(&session, all).await;
            client
        })
    };
    let tasks: Vec<_> = clients.into_iter().map(check).collect();
    let mut clients = Clients::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    clients
}

async fn clear(clients: Clients, socket: &Path) {
    for mut client in clients {
        client.clear(&Session::open(socket, &client.namespace())).await;
    }
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
