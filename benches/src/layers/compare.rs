//! Making a layer of 10,000 changed files.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use corten_api::containerd::types::Mount;

use super::{image::Packing, recipe::text};
use crate::{
    comparison::Comparison,
    lab::Lab,
    peers::{Server, turns},
};

const REPETITIONS: usize = 3;
const FILE_BYTES: usize = 4000;
const FOLDER_FILES: usize = 100;

pub(super) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    let files = lab.options.size(10_000, 300);
    let mut comparison = Comparison::default();
    for repetition in 0..lab.options.repetitions(REPETITIONS) {
        for peer in turns(repetition) {
            let server = Server::start(peer, &lab.options, 1500)?;
            // What nothing refers to is collected soon after the start.
            let client = lab.block_on(lab.client(&server).leasing("layers"))?;
            let below = lab.block_on(client.prepare("below", ""))?;
            write(&upper(&below)?, files, 0)?;
            lab.block_on(client.commit("below", "base", "", Some("containerd.io/gc.root")))?;
            let left = lab.block_on(client.view("view", "base"))?;
            let right = lab.block_on(client.prepare("changed", "base"))?;
            write(&upper(&right)?, files, files)?;
            crate::filesystem::sync(&server.mounted())?;
            let work = client.compare(left, right, Packing::Gzip.media_type());
            let (layer, cost) = server.measure(|| lab.block_on(work))?;
            ensure!(layer.size > 0, "{peer} made an empty layer");
            comparison.add(peer, cost);
            drop(client);
            server.finish()?;
        }
    }
    lab.report.heading("A layer of changes");
    lab.report
        .say(&format!("{files} files of {FILE_BYTES} bytes, all of them changed, as a layer with gzip."));
    comparison.table(&mut lab.report, "", Some((files * FILE_BYTES) as f64 / 1e6));
    lab.report.speedup("compare of 10,000 changed files", 2.0, comparison.speedup());
    Ok(())
}

/// The folder that a snapshot's own files are in.
fn upper(mounts: &[Mount]) -> anyhow::Result<PathBuf> {
    let mount = mounts.first().context("a snapshot has a mount")?;
    let upper = mount.options.iter().find_map(|option| option.strip_prefix("upperdir="));
    Ok(upper.unwrap_or(&mount.source).into())
}

fn write(folder: &Path, files: usize, seed: usize) -> anyhow::Result<()> {
    for number in 0..files {
        let folder = folder.join((number / FOLDER_FILES).to_string());
        if number % FOLDER_FILES == 0 {
            std::fs::create_dir_all(&folder)?;
        }
        std::fs::write(folder.join(number.to_string()), text(seed + number, FILE_BYTES))?;
    }
    Ok(())
}
