//! Layers: imports with unpack, snapshots on long chains, and layers made of changes.

mod baseline;
mod chains;
mod compare;
mod image;
mod import;
mod recipe;

use crate::lab::Lab;

/// Room for the largest image, packed and unpacked. Loop files have holes: what is not written takes nothing.
const ROOM_MB: u64 = 5000;

pub(crate) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    lab.run("usr-gzip", import::usr_gzip)?;
    lab.run("usr-zstd", import::usr_zstd)?;
    lab.run("durability", import::durability)?;
    lab.run("one-layer", import::one_layer)?;
    lab.run("many-layers", import::many_layers)?;
    lab.run("small-files", import::small_files)?;
    lab.run("chains", chains::measure)?;
    lab.run("compare", compare::measure)
}
