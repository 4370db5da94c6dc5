//! The power goes at random instants.
//!
//! A daemon works on an ext4 on a disk that remembers every write and every flush. Afterwards the disk is made again as it may have been at
//! many instants; a daemon opens it and is asked for what had been acknowledged by then.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use corten_tests::{BlockFile, Daemon, DaemonOptions, Ext4, Kind, Storage, root_or_skip};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rustix::{
    mount::MountPropagationFlags,
    thread::{UnshareFlags, unshare_unsafe},
};
use tokio::runtime::Runtime;

use crate::{
    clients::{self, Clients, Depth},
    ledger::Clock,
    load, number,
    recording::{MemoryDisk, Recording},
    session::Session,
};

const CUTS: u64 = 30;

/// So many cuts are made from one recording.
const CUTS_A_RECORDING: u64 = 100;

/// So many are looked at at the same time.
const AT_ONCE: usize = 3;

/// How many steps each client does at the least before the daemon is killed, and after it was started again.
const STEPS: u64 = 8;

const DISK_BYTES: u64 = 2 << 30;

#[test]
fn what_was_acknowledged_is_whole_after_a_power_cut() {
    if !root_or_skip() {
        return;
    }
    let cuts = number("CORTEN_TEST_CUTS").unwrap_or(CUTS);
    let seed = number("CORTEN_TEST_SEED").unwrap_or_else(rand::random);
    println!("CORTEN_TEST_CUTS={cuts} CORTEN_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut left = cuts;
    while left > 0 {
        let now = left.min(CUTS_A_RECORDING);
        let work = Work::record(&mut random);
        println!("{} changes in {} writes and flushes", work.acknowledged(), work.recording.position());
        let differences = work.cut(now, 0, &mut random);
        assert!(differences.is_empty(), "lost or torn:\n{}", differences.join("\n"));
        left -= now;
    }
}

/// The check of the checks: if they find nothing here, they find nothing anywhere.
#[test]
fn a_disk_that_lies_about_flushes_is_found_out() {
    if !root_or_skip() {
        return;
    }
    let mut random = StdRng::seed_from_u64(number("CORTEN_TEST_SEED").unwrap_or_else(rand::random));
    let work = Work::record(&mut random);
    let differences = work.cut(4, 40, &mut random);
    assert!(
        differences.len() >= 3,
        "of 4 disks that lost what 40 flushes had promised these were found: {differences:?}"
    );
}

/// What was done, and what the disk was told.
struct Work {
    recording: Arc<Recording>,
    clients: Clients,
    /// Where cuts begin and end.
    from: u64,
    to: u64,
    runtime: Runtime,
    scratch: tempfile::TempDir,
}

impl Work {
    /// Lets clients work on a daemon that is killed, started again and stopped.
    fn record(random: &mut StdRng) -> Self {
        leave_mounts_to_the_kernel();
        // The threads are born after that, and so live with these mounts.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let recording = Arc::new(Recording::new(DISK_BYTES));
        let block_file = BlockFile::mount(Arc::clone(&recording) as Arc<dyn Storage>).unwrap();
        Ext4::format(&block_file.path(), &[]).unwrap();
        let disk = scratch.path().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let mounted = Ext4::mount(&block_file.path(), &disk).unwrap();
        let from = recording.position();
        let clock: Clock = {
            let recording = Arc::clone(&recording);
            Some(Arc::new(move || recording.position()))
        };
        let mut clients = clients::all(random, scratch.path(), &clock);
        let mut daemon = start(&disk);
        clients = runtime.block_on(load::work(&daemon.address(), clients, STEPS));
        daemon.kill().unwrap();
        daemon.restart().unwrap();
        clients = runtime.block_on(load::check(clients, &daemon.address(), Depth::Fresh)).unwrap();
        clients = runtime.block_on(load::work(&daemon.address(), clients, STEPS));
        daemon.finish().unwrap();
        let to = recording.position();
        mounted.unmount().unwrap();
        Self { recording, clients, from, to, runtime, scratch }
    }

    fn acknowledged(&self) -> u64 {
        self.clients.iter().map(|client| client.acknowledged()).sum()
    }

    /// Cuts at so many instants and says what was found missing.
    fn cut(&self, cuts: u64, lost_flushes: usize, random: &mut StdRng) -> Vec<String> {
        let mut instants = self.instants(cuts, random);
        instants.sort_unstable();
        let replay = Mutex::new((self.recording.replay(), instants.into_iter(), StdRng::from_rng(random)));
        let differences = Mutex::new(Vec::new());
        let next = || {
            let mut state = replay.lock().unwrap();
            let (replay, instants, random) = &mut *state;
            let instant = instants.next()?;
            Some((instant, replay.cut(instant, lost_flushes, random)))
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((instant, disk)) = next() {
                        if let Err(difference) = self.look(instant, disk) {
                            let difference = format!("cut at {instant} of {}: {difference}", self.to);
                            differences.lock().unwrap().push(difference);
                        }
                    }
                });
            }
        });
        differences.into_inner().unwrap()
    }

    /// Half of them right after something was acknowledged, which is when a late flush would be seen.
    fn instants(&self, cuts: u64, random: &mut StdRng) -> Vec<u64> {
        let told: Vec<u64> = self.clients.iter().flat_map(|client| client.acknowledged_at()).collect();
        let instant = |number: u64| match told.choose(random) {
            Some(instant) if number.is_multiple_of(2) => *instant,
            _ => random.random_range(self.from..=self.to),
        };
        (0..cuts).map(instant).collect()
    }

    /// Opens what the disk was at that instant.
    fn look(&self, instant: u64, disk: MemoryDisk) -> Result<(), String> {
        let begun = Instant::now();
        let said = |error: anyhow::Error| format!("{error:#}");
        let folder = tempfile::tempdir_in(self.scratch.path()).unwrap();
        let block_file = BlockFile::mount(Arc::new(disk)).unwrap();
        let mounted = Ext4::mount(&block_file.path(), folder.path()).map_err(said)?;
        let mut daemon = prepare(folder.path());
        daemon.restart().map_err(said)?;
        let clients: Clients = self.clients.iter().map(|client| client.at(instant)).collect();
        let opened = begun.elapsed();
        let looked = self.runtime.block_on(look(clients, &daemon.address()));
        let looked = looked.map_err(|error| format!("{error}\nlog of the daemon:\n{}", daemon.log()));
        daemon.kill().unwrap();
        let log = daemon.log();
        drop(daemon);
        let unmounted = mounted.unmount().map_err(said);
        println!("cut at {instant}: opened after {opened:?}, looked at after {:?}", begun.elapsed());
        looked?;
        unmounted?;
        for sign in ["quarantine", "panicked"] {
            if log.contains(sign) {
                return Err(format!("the log says {sign}:\n{log}"));
            }
        }
        Ok(())
    }
}

/// Compares, collects, and compares again: what can be reached was not collected.
async fn look(clients: Clients, socket: &Path) -> Result<(), String> {
    let clients = load::check(clients, socket, Depth::Cut).await?;
    let session = Session::open(socket, "collect");
    let collected = async {
        session.create_lease("collect").await?;
        session.delete_lease("collect", true).await
    };
    collected.await.map_err(|error| format!("no collection: {error:?}"))?;
    load::check(clients, socket, Depth::Fresh).await.map(drop)
}

fn start(disk: &Path) -> Daemon {
    let mut daemon = prepare(disk);
    daemon.restart().unwrap();
    daemon
}

/// A daemon whose durable folder lies on `disk`; the others are gone with the power.
fn prepare(disk: &Path) -> Daemon {
    let root = Some(disk.join("root"));
    Daemon::prepare(DaemonOptions { kind: Kind::Corten, root, ..DaemonOptions::default() }).unwrap()
}

/// A mount namespace for this thread and those that it begins: however this process ends, its mounts go with it.
pub(crate) fn leave_mounts_to_the_kernel() {
    // SAFETY: descriptors stay shared; of this thread only the mounts and the working directory become its own.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).unwrap();
}
