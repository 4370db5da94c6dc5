//! Listing 10,000 images and 10,000 containers with a label filter that one in ten meets.

use anyhow::ensure;
use futures::future::try_join_all;

use crate::{
    client::Client,
    comparison::Comparison,
    lab::Lab,
    peers::{PEERS, Server, turns},
    storage::rows::{Kind, Row},
};

const WRITERS: usize = 64;
const REPETITIONS: usize = 25;

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let count = lab.options.size(10_000, 500);
    lab.report.heading("Lists with a label filter");
    lab.report.say(&format!("{count} rows, of which one in ten has the label that is asked for."));
    let mut servers = Vec::new();
    for peer in PEERS {
        let server = Server::start(peer, &lab.options, 1000)?;
        let client = lab.client(&server);
        for kind in [Kind::Images, Kind::Containers] {
            lab.block_on(fill(&client, kind, count))?;
        }
        servers.push((server, client));
    }
    for kind in [Kind::Images, Kind::Containers] {
        let mut comparison = Comparison::default();
        for repetition in 0..lab.options.repetitions(REPETITIONS) {
            for peer in turns(repetition) {
                let (server, client) = &servers[peer as usize];
                let list = kind.count(client, "labels.\"bench.group\"==\"g3\"");
                let (found, cost) = server.measure(|| lab.block_on(list))?;
                ensure!(found == count / 10, "{peer} lists {found} of {count} {}", kind.name());
                comparison.add(peer, cost);
            }
        }
        comparison.table(&mut lab.report, kind.name(), None);
        let what = format!("list of {count} {} with a label filter", kind.name());
        lab.report.speedup(&what, 3.0, comparison.speedup());
    }
    for (peer, (server, client)) in PEERS.into_iter().zip(servers) {
        drop(client);
        lab.note_memory("lists of 10,000 rows", peer, &server)?;
        server.finish()?;
    }
    Ok(())
}

/// Makes the rows, many at once: this is not what is measured.
async fn fill(client: &Client, kind: Kind, count: usize) -> anyhow::Result<()> {
    let write = async |writer: usize| {
        for number in (writer..count).step_by(WRITERS) {
            let row = Row::new(kind, &format!("localhost-{number}"));
            row.with_label("bench.group", &format!("g{}", number % 10)).create(client).await?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..WRITERS).map(write)).await.map(drop)
}
