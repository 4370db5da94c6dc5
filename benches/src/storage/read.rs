//! Reading a blob of 500 MB back.

use anyhow::ensure;

use crate::{
    client::Sending,
    comparison::Comparison,
    lab::Lab,
    peers::{PEERS, Server, turns},
    storage::ingest::noise,
};

const REPETITIONS: usize = 7;

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let length = lab.options.size(500_000_000, 20_000_000);
    let blob = noise(7, length);
    let mut servers = Vec::new();
    for peer in PEERS {
        let server = Server::start(peer, &lab.options, length as u64 / 1_000_000 * 3 / 2 + 200)?;
        let client = lab.client(&server);
        lab.block_on(client.upload(&blob, Sending::Streamed))?;
        servers.push((server, client));
    }
    let mut comparison = Comparison::default();
    for repetition in 0..lab.options.repetitions(REPETITIONS) {
        for peer in turns(repetition) {
            let (server, client) = &servers[peer as usize];
            let (read, cost) = server.measure(|| lab.block_on(client.read(&blob.digest)))?;
            ensure!(read == length as u64, "{peer} gave {read} of {length} bytes");
            comparison.add(peer, cost);
        }
    }
    for (peer, (server, client)) in PEERS.into_iter().zip(servers) {
        drop(client);
        lab.note_memory("reading 500 MB", peer, &server)?;
        server.finish()?;
    }
    let megabytes = length as f64 / 1e6;
    lab.report.heading("Reading a blob");
    lab.report.say(&format!("{megabytes:.0} MB in one call, from the page cache."));
    comparison.table(&mut lab.report, "", Some(megabytes));
    lab.report.speedup(&format!("reading {megabytes:.0} MB back"), 1.5, comparison.speedup());
    Ok(())
}
