//! Collecting half of 50,000 blobs and 5,000 snapshots while a client keeps creating images.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use corten_api::containerd::services::leases::v1::{DeleteRequest, leases_client::LeasesClient};
use futures::future::try_join_all;
use tokio::sync::watch;

use crate::{
    client::{Blob, Client, Sending},
    lab::Lab,
    peers::{PEERS, Peer, Server},
    report::Wanted,
    sample::Samples,
    storage::rows::{Kind, Row},
};

const WRITERS: usize = 32;
const LEASE: &str = "bench";
const ROOT: &str = "containerd.io/gc.root";
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// What one daemon did.
struct Figures {
    idle: Samples,
    busy: Samples,
    answered: Duration,
    gone: Duration,
    cpu_seconds: f64,
    /// Operations on Corten's database that waited longer than 50 ms for the writer, by its own count.
    stalls: Option<f64>,
}

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let (blobs, snapshots) = lab.options.size((50_000, 5_000), (1_000, 100));
    let mut figures = Vec::new();
    for peer in PEERS {
        let server = Server::start(peer, &lab.options, 2500)?;
        let client = lab.client(&server);
        let begin = Instant::now();
        lab.block_on(fill(&client, blobs, snapshots)).with_context(|| format!("fill {peer}"))?;
        eprintln!("  {peer} was filled in {:.0} s", begin.elapsed().as_secs_f64());
        let folders = [
            server.mounted().join("root/io.containerd.content.v1.content/blobs/sha256"),
            server.mounted().join("root/io.containerd.snapshotter.v1.overlayfs/snapshots"),
        ];
        ensure!(entries(&folders[0])? >= blobs, "{peer} keeps its blobs elsewhere");
        let left = [blobs - blobs / 2, snapshots - snapshots / 2];
        let (mine, cost) = server.measure(|| lab.block_on(collect(lab, &client, &folders, left)))?;
        figures.push(Figures { cpu_seconds: cost.cpu_seconds, ..mine });
        drop(client);
        lab.note_memory("a collection", peer, &server)?;
        server.finish()?;
    }
    report(lab, &figures, blobs, snapshots);
    Ok(())
}

/// Blobs and snapshots under a lease, of which every second one also holds itself.
async fn fill(client: &Client, blobs: usize, snapshots: usize) -> anyhow::Result<()> {
    let client = &client.leasing(LEASE).await?;
    let write = async |writer: usize| {
        for number in (writer..blobs).step_by(WRITERS) {
            let mut blob = Blob::new(format!("a small blob, number {number}").into_bytes());
            if number % 2 == 0 {
                blob = blob.with_label(ROOT, "bench");
            }
            client.upload(&blob, Sending::Streamed).await?;
        }
        for number in (writer..snapshots).step_by(WRITERS) {
            let (key, name) = (format!("active-{number}"), format!("snapshot-{number}"));
            client.prepare(&key, "").await?;
            client.commit(&key, &name, "", (number % 2 == 0).then_some(ROOT)).await?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..WRITERS).map(write)).await.map(drop)
}

/// Creates images, first alone, then while the lease goes and with it what only it held.
async fn collect(
    lab: &Lab,
    client: &Client,
    folders: &[impl AsRef<Path>; 2],
    left: [usize; 2],
) -> anyhow::Result<Figures> {
    let alone = lab.options.size(Duration::from_secs(4), Duration::from_millis(200));
    let (stop, stopped) = watch::channel(false);
    let other = client.clone();
    let idle = {
        let creating = tokio::spawn(create(other.clone(), "idle", stopped.clone()));
        tokio::time::sleep(alone).await;
        stop.send(true)?;
        creating.await??
    };
    stop.send(false)?;
    let stalls = async || Some(client.statistics().await?["waits_over_50_ms"].as_f64()?);
    let stalls_before = stalls().await;
    let creating = tokio::spawn(create(other, "busy", stopped));
    let begin = Instant::now();
    let message = DeleteRequest { id: LEASE.to_owned(), sync: true };
    LeasesClient::new(client.channel()).delete(client.request(message)).await?;
    let answered = begin.elapsed();
    loop {
        let found = [entries(folders[0].as_ref())?, entries(folders[1].as_ref())?];
        if found[0] <= left[0] && found[1] <= left[1] {
            ensure!(found == left, "{found:?} are left of {left:?}: too much was collected");
            break;
        }
        ensure!(begin.elapsed() < Duration::from_secs(600), "{found:?} are left, not {left:?}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let gone = begin.elapsed();
    stop.send(true)?;
    let busy = creating.await??;
    let stalls = stalls().await.zip(stalls_before).map(|(after, before)| after - before);
    Ok(Figures { idle, busy, answered, gone, cpu_seconds: 0.0, stalls })
}

/// Creates one image after the other until it is told to stop.
async fn create(
    client: Client,
    name: &'static str,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Samples> {
    let mut latencies = Samples::default();
    let mut number = 0;
    while !*stopped.borrow() {
        let row = Row::new(Kind::Images, &format!("localhost/{name}-{number}"));
        let begin = Instant::now();
        row.create(&client).await?;
        latencies.push(begin.elapsed());
        number += 1;
    }
    Ok(latencies)
}

fn entries(folder: &Path) -> anyhow::Result<usize> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    Ok(entries.count())
}

fn report(lab: &mut Lab, figures: &[Figures], blobs: usize, snapshots: usize) {
    let report = &mut lab.report;
    report.heading("Collection");
    report.say(&format!(
        "{blobs} blobs and {snapshots} snapshots, half of them held by a lease only; the lease is deleted with `sync`, while one \
         client creates images one after the other. The files are gone when the folders have half as many entries."
    ));
    let head = [
        "",
        "creates alone: median ms",
        "p99 ms",
        "largest ms",
        "creates meanwhile: median ms",
        "p99 ms",
        "largest ms",
        "answered after s",
        "files gone after s",
        "CPU seconds",
    ];
    let rows = PEERS.map(|peer| {
        let Figures { idle, busy, answered, gone, cpu_seconds, stalls: _ } = &figures[peer as usize];
        let mut row = vec![peer.to_string()];
        for samples in [idle, busy] {
            row.extend(
                [samples.median(), samples.p99(), samples.largest()].map(|figure| format!("{figure:.2}")),
            );
        }
        row.extend([answered, gone].map(|time| format!("{:.2}", time.as_secs_f64())));
        row.push(format!("{cpu_seconds:.2}"));
        row
    });
    report.table(&head, &rows);
    let (corten, containerd) = (&figures[Peer::Corten as usize], &figures[Peer::Containerd as usize]);
    let factor = corten.busy.p99() / corten.idle.p99();
    report.target("p99 of creates during a collection", Wanted::AtMost(2.0), factor, "times its idle value");
    let stalls = corten.stalls.unwrap_or(f64::NAN);
    let by = "by the daemon's histogram";
    report.target("waits for the writer over 50 ms meanwhile", Wanted::AtMost(0.0), stalls, by);
    report.ratio(
        "collection, until the files are gone",
        containerd.gone.as_secs_f64() / corten.gone.as_secs_f64(),
    );
}
