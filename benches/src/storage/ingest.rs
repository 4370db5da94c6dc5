//! An image of 800 MB through gRPC, beside hashing and copying the same bytes without any daemon.

use std::{path::Path, process::Command};

use bytes::Bytes;

use crate::{
    client::{Blob, Client, Sending},
    comparison::Comparison,
    filesystem::{Fresh, run, sync},
    lab::Lab,
    peers::{Peer, Server, turns},
    report::Wanted,
    sample::Samples,
    storage::rows::{Kind, Row},
};

const LAYERS: usize = 4;
const REPETITIONS: usize = 3;

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let layer_bytes = lab.options.size(200_000_000, 10_000_000);
    let layers: Vec<Blob> = (0..LAYERS).map(|seed| noise(seed as u64, layer_bytes)).collect();
    let megabytes = (layer_bytes * LAYERS) as f64 / 1e6;
    let room_mb = megabytes as u64 * 3 / 2 + 200;
    let whole = tempfile::Builder::new().prefix("corten-bench-").tempdir_in(&lab.options.folder)?;
    let file = whole.path().join("bytes");
    std::fs::write(&file, layers.iter().map(|layer| &layer.bytes[..]).collect::<Vec<_>>().concat())?;

    let repetitions = lab.options.repetitions(REPETITIONS);
    let mut baselines = [Samples::default(), Samples::default()];
    let mut compared = [Comparison::default(), Comparison::default()];
    for repetition in 0..repetitions {
        for (sending, comparison) in [Sending::Lockstep, Sending::Streamed].into_iter().zip(&mut compared) {
            for peer in turns(repetition) {
                let server = Server::start(peer, &lab.options, room_mb)?;
                let client = lab.client(&server);
                let ((), cost) = server.measure(|| lab.block_on(import(&client, &layers, sending)))?;
                comparison.add(peer, cost);
                if repetition == 0 && sending == Sending::Lockstep {
                    lab.note_memory("ingest of 800 MB", peer, &server)?;
                }
                server.finish()?;
            }
        }
        baselines[0].take(|| run(Command::new("openssl").args(["dgst", "-sha256"]).arg(&file)))?;
        let target = Fresh::new(&lab.options.folder, room_mb)?;
        baselines[1].take(|| copy(&file, &target.path()))?;
    }
    report(lab, megabytes, &compared, &baselines);
    Ok(())
}

fn report(lab: &mut Lab, megabytes: f64, [lockstep, streamed]: &[Comparison; 2], baselines: &[Samples; 2]) {
    let baseline = baselines[0].median() + baselines[1].median();
    let report = &mut lab.report;
    report.heading("Ingest of an image");
    report.say(&format!(
        "{LAYERS} layers of {:.0} MB that do not compress, and an image row; messages of 1 MiB, one blob after the other, on one \
         connection. Both clocks stop after a `syncfs`, which finds little to do: both daemons sync each blob.",
        megabytes / LAYERS as f64
    ));
    lockstep.table(report, "each message waits for its answer", Some(megabytes));
    streamed.table(report, "messages are streamed", Some(megabytes));
    report.say(&format!(
        "Without a daemon: `openssl dgst -sha256` {:.0} ms, a synced copy {:.0} ms, together {baseline:.0} ms.",
        baselines[0].median(),
        baselines[1].median(),
    ));
    for (comparison, how) in [(lockstep, "message by message"), (streamed, "streamed")] {
        report.speedup(&format!("ingest of {megabytes:.0} MB, {how}"), 1.5, comparison.speedup());
        let share = comparison.cpu_share();
        report.target(&format!("CPU of the ingest, {how}"), Wanted::AtMost(0.5), share, "times containerd's");
        let rate = baseline / comparison.median_ms(Peer::Corten);
        let what = format!("rate of the ingest, {how}");
        report.target(&what, Wanted::AtLeast(0.7), rate, "times hashing plus a synced copy");
    }
}

async fn import(client: &Client, layers: &[Blob], sending: Sending) -> anyhow::Result<()> {
    for layer in layers {
        client.upload(layer, sending).await?;
    }
    Row::new(Kind::Images, "localhost/big:1").create(client).await
}

fn copy(file: &Path, folder: &Path) -> anyhow::Result<()> {
    run(Command::new("cp").arg(file).arg(folder))?;
    sync(folder)
}

/// Bytes that do not compress, the same for the same seed.
pub(super) fn noise(seed: u64, length: usize) -> Blob {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    Blob::new(Bytes::from(bytes)).with_label("containerd.io/gc.root", "bench")
}
