//! Making, changing and removing images and containers, with few clients and with many, on a quick and on a slow device.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;

use crate::{
    client::Client,
    filesystem::Fresh,
    lab::Lab,
    peers::{PEERS, Peer, Server, turns},
    report::Wanted,
    sample::Samples,
    storage::rows::{Kind, Row},
};

const CLIENTS: [usize; 3] = [1, 16, 64];
const REPETITIONS: usize = 3;
const SYNC_DELAY: Duration = Duration::from_millis(2);
const KINDS: [Kind; 2] = [Kind::Images, Kind::Containers];

/// What one daemon did with one number of clients.
#[derive(Debug, Default)]
struct Figures {
    rates: Samples,
    latencies: Samples,
    operations: f64,
    cpu_seconds: f64,
    flushes: f64,
    /// Corten's own count of transactions, each of which is synced once.
    commits: f64,
}

/// One number of clients and one kind of rows.
struct Cell {
    kind: Kind,
    clients: usize,
    figures: [Figures; 2],
}

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    for delay in [None, Some(SYNC_DELAY)] {
        let mut cells: Vec<Cell> = KINDS
            .iter()
            .flat_map(|&kind| {
                CLIENTS.map(|clients| Cell { kind, clients, figures: <[Figures; 2]>::default() })
            })
            .collect();
        for repetition in 0..lab.options.repetitions(REPETITIONS) {
            repeat(lab, repetition, delay, &mut cells)?;
        }
        report(lab, delay, &cells);
    }
    Ok(())
}

fn repeat(
    lab: &mut Lab,
    repetition: usize,
    delay: Option<Duration>,
    cells: &mut [Cell],
) -> anyhow::Result<()> {
    let servers = PEERS.map(|peer| {
        let filesystem = Fresh::with_slow_flushes(&lab.options.folder, 1000, delay)?;
        Server::start_on(peer, filesystem, Vec::new())
    });
    let [corten, containerd] = servers;
    let servers = [corten?, containerd?];
    for cell in cells {
        for peer in turns(repetition) {
            let server = &servers[peer as usize];
            round(lab, server, cell.kind, cell.clients, &mut cell.figures[peer as usize])
                .with_context(|| format!("{} {} on {peer}", cell.clients, cell.kind.name()))?;
        }
    }
    for (peer, server) in PEERS.into_iter().zip(servers) {
        if repetition == 0 && delay.is_none() {
            lab.note_memory("making and removing rows", peer, &server)?;
        }
        server.finish()?;
    }
    Ok(())
}

/// As many rows as fit into a moment.
fn round(lab: &Lab, server: &Server, kind: Kind, count: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let clients: Vec<Client> = (0..count).map(|_| lab.client(server)).collect();
    lab.block_on(try_join_all(clients.iter().map(|client| kind.count(client, "labels.none==none"))))?;
    let moment = lab.options.size(Duration::from_millis(800), Duration::from_millis(100));
    let flushes = server.flushes()?;
    let committed = lab.block_on(commits(&clients[0]));
    let ((latencies, wall), cost) = server.measure(|| {
        let begin = Instant::now();
        let work =
            clients.iter().enumerate().map(|(number, client)| rows(client, kind, number, begin + moment));
        let latencies = lab.block_on(try_join_all(work))?;
        Ok((latencies, begin.elapsed()))
    })?;
    let before = figures.latencies.count();
    latencies.iter().for_each(|latencies| figures.latencies.extend(latencies));
    let operations = (figures.latencies.count() - before) as f64;
    figures.rates.add(operations / wall.as_secs_f64());
    figures.operations += operations;
    figures.cpu_seconds += cost.cpu_seconds;
    figures.flushes += server.flushes()? - flushes;
    figures.commits += lab.block_on(commits(&clients[0])) - committed;
    Ok(())
}

async fn commits(client: &Client) -> f64 {
    let statistics = client.statistics().await;
    statistics.and_then(|statistics| statistics["commits"].as_f64()).unwrap_or_default()
}

/// Makes, changes and removes one row after the other until `end`.
async fn rows(client: &Client, kind: Kind, writer: usize, end: Instant) -> anyhow::Result<Samples> {
    let mut latencies = Samples::default();
    let mut number = 0;
    while Instant::now() < end {
        let row = Row::new(kind, &format!("localhost-{writer}-{number}"));
        let begin = Instant::now();
        row.create(client).await?;
        let created = Instant::now();
        row.update(client).await?;
        let updated = Instant::now();
        row.delete(client).await?;
        latencies.push(created - begin);
        latencies.push(updated - created);
        latencies.push(updated.elapsed());
        number += 1;
    }
    Ok(latencies)
}

fn report(lab: &mut Lab, delay: Option<Duration>, cells: &[Cell]) {
    let report = &mut lab.report;
    let device = delay.map_or("a quick device".to_owned(), |delay| {
        format!("a device that takes {} ms longer to sync", delay.as_millis())
    });
    report.heading(&format!("Making, changing and removing rows on {device}"));
    report.say(
        "An operation is a create, an update of the labels, or a delete; each client has a connection of its own. A sync is \
         a transaction of Corten's database, by its own count. Flushes are those that reached the device: a sync that makes a \
         file longer costs two on ext4.",
    );
    let head = [
        "",
        "clients",
        "operations a second",
        "median ms",
        "p99 ms",
        "CPU ms an operation",
        "operations a sync",
        "operations a flush",
        "ratio",
    ];
    let mut rows = Vec::new();
    for Cell { kind, clients, figures } in cells {
        let rate = |peer: Peer| figures[peer as usize].rates.median();
        let speedup = rate(Peer::Corten) / rate(Peer::Containerd);
        for peer in PEERS {
            let mine = &figures[peer as usize];
            rows.push(vec![
                format!("{}, {peer}", kind.name()),
                clients.to_string(),
                format!("{:.0}", rate(peer)),
                format!("{:.2}", mine.latencies.median()),
                format!("{:.2}", mine.latencies.p99()),
                format!("{:.2}", mine.cpu_seconds * 1000.0 / mine.operations),
                if mine.commits > 0.0 {
                    format!("{:.1}", mine.operations / mine.commits)
                } else {
                    String::new()
                },
                format!("{:.1}", mine.operations / mine.flushes),
                format!("{:.2}", rate(peer) / rate(Peer::Containerd)),
            ]);
        }
        let what = format!("{}, {clients} clients, {device}", kind.name());
        match (clients, delay) {
            (1, _) => report.speedup(&what, 1.0, speedup),
            (16, Some(_)) => {
                report.speedup(&what, 5.0, speedup);
                let corten = &figures[Peer::Corten as usize];
                // A daemon that does not count meets no target.
                let per_sync =
                    if corten.commits > 0.0 { corten.operations / corten.commits } else { f64::NAN };
                report.target(&what, Wanted::AtLeast(8.0), per_sync, "operations a sync");
            }
            _ => report.ratio(&what, speedup),
        }
    }
    report.table(&head, &rows);
}
