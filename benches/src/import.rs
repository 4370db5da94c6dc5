//! Importing an image of 200 MB, unpacked, on a fresh filesystem.

use corten_tests::{Daemon, DaemonOptions, Image};

use crate::{
    PEERS,
    filesystem::{Fresh, sync},
    first_run::text,
    sample::Samples,
};

const ROUNDS: usize = 5;
const FILES: usize = 2000;
const FILE_BYTES: usize = 100_000;
const FILESYSTEM_MB: u64 = 2048;

pub(crate) fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let image = Image::bulk(folder.path(), "localhost/bulk:1", FILES, FILE_BYTES)?;
    let mut samples = [Samples::default(), Samples::default()];
    let mut seconds = [0.0; 2];
    for _ in 0..ROUNDS {
        for (number, (kind, _)) in PEERS.into_iter().enumerate() {
            let fresh = Fresh::new(FILESYSTEM_MB)?;
            let root = Some(fresh.path().join("root"));
            let daemon = Daemon::start_with(DaemonOptions { kind, root, ..DaemonOptions::default() })?;
            let before = cpu_seconds(daemon.pid())?;
            // containerd acknowledges before its files are on the disk; both clocks stop when they are.
            samples[number].take(|| {
                daemon.ctr().ok(&["images", "import", text(&image.archive)?])?;
                sync(&fresh.path())
            })?;
            seconds[number] += cpu_seconds(daemon.pid())? - before;
            daemon.finish()?;
        }
    }
    println!("### Importing an image\n");
    println!(
        "`ctr images import` of {FILES} files of {FILE_BYTES} bytes that do not compress, unpacked, then synced; a fresh \
         ext4 in memory for each of {ROUNDS} rounds.\n"
    );
    println!(
        "| | median ms | p90 ms | CPU seconds of the daemon | ratio of the medians |\n|---|---|---|---|---|"
    );
    let containerd = samples[1].median_ms();
    for (number, (_, name)) in PEERS.into_iter().enumerate() {
        let (median, p90) = (samples[number].median_ms(), samples[number].p90_ms());
        let cpu = seconds[number] / ROUNDS as f64;
        println!("| {name} | {median:.0} | {p90:.0} | {cpu:.2} | {:.2} |", containerd / median);
    }
    println!();
    Ok(())
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}
