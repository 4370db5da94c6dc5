//! Preparing and removing snapshots on chains of 1, 20 and 100 layers.

use std::time::{Duration, Instant};

use crate::{
    client::Client,
    lab::Lab,
    peers::{PEERS, Peer, Server, turns},
    sample::Samples,
};

const CHAINS: [usize; 3] = [1, 20, 100];
const REPETITIONS: usize = 3;

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let mut rates = CHAINS.map(|_| <[Samples; 2]>::default());
    let mut latencies = CHAINS.map(|_| <[Samples; 2]>::default());
    let mut cpu_ms = CHAINS.map(|_| <[Samples; 2]>::default());
    let moment = lab.options.size(Duration::from_secs(1), Duration::from_millis(100));
    for repetition in 0..lab.options.repetitions(REPETITIONS) {
        let mut servers = Vec::new();
        for peer in PEERS {
            let server = Server::start(peer, &lab.options, 1000)?;
            // What nothing refers to is collected soon after the start.
            let client = lab.block_on(lab.client(&server).leasing("layers"))?;
            lab.block_on(chain(&client))?;
            servers.push((server, client));
        }
        for (number, length) in CHAINS.into_iter().enumerate() {
            for peer in turns(repetition) {
                let (server, client) = &servers[peer as usize];
                let begin = Instant::now();
                let (mine, cost) = server.measure(|| lab.block_on(pairs(client, length, moment)))?;
                rates[number][peer as usize].add(mine.count() as f64 / begin.elapsed().as_secs_f64());
                cpu_ms[number][peer as usize].add(cost.cpu_seconds * 1000.0 / mine.count() as f64);
                latencies[number][peer as usize].extend(&mine);
            }
        }
        for (server, client) in servers {
            drop(client);
            server.finish()?;
        }
    }
    let mut rows = Vec::new();
    for (number, length) in CHAINS.into_iter().enumerate() {
        let rate = |peer: Peer| rates[number][peer as usize].median();
        for peer in PEERS {
            let latencies = &latencies[number][peer as usize];
            rows.push(vec![
                format!("{peer}, {length} layers"),
                format!("{:.0}", rate(peer)),
                format!("{:.2}", latencies.median()),
                format!("{:.2}", latencies.p99()),
                format!("{:.2}", cpu_ms[number][peer as usize].mean()),
                format!("{:.2}", rate(peer) / rate(Peer::Containerd)),
            ]);
        }
        let what = format!("prepare and remove on {length} layers");
        lab.report.speedup(&what, 2.0, rate(Peer::Corten) / rate(Peer::Containerd));
    }
    lab.report.heading("Snapshots on long chains");
    lab.report.say("A snapshot is prepared and removed, by one client, one after the other.");
    let head =
        ["", "pairs a second", "median ms of a pair", "p99 ms", "CPU ms of the daemon a pair", "ratio"];
    lab.report.table(&head, &rows);
    Ok(())
}

/// Commits the longest chain.
async fn chain(client: &Client) -> anyhow::Result<()> {
    let longest = CHAINS[CHAINS.len() - 1];
    for number in 1..=longest {
        let parent = if number == 1 { String::new() } else { format!("layer-{}", number - 1) };
        client.prepare("growing", &parent).await?;
        client.commit("growing", &format!("layer-{number}"), "", Some("containerd.io/gc.root")).await?;
    }
    Ok(())
}

async fn pairs(client: &Client, length: usize, moment: Duration) -> anyhow::Result<Samples> {
    let mut latencies = Samples::default();
    let (end, parent) = (Instant::now() + moment, format!("layer-{length}"));
    while Instant::now() < end {
        let begin = Instant::now();
        client.prepare("short-lived", &parent).await?;
        client.remove("short-lived").await?;
        latencies.push(begin.elapsed());
    }
    Ok(latencies)
}
