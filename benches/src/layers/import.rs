//! Importing images with unpack, as `ctr images import` does it, but by one client that stays.

use std::time::Instant;

use anyhow::{Context, ensure};
use corten_api::containerd::{
    services::images::v1::{CreateImageRequest, Image as ImageRow, images_client::ImagesClient},
    types::Mount,
};
use futures::{TryStreamExt, future::try_join, stream::FuturesUnordered};
use tokio::sync::oneshot;

use super::{
    ROOM_MB, baseline,
    image::{Image, Layer, MANIFEST, Packing},
    recipe::Recipe,
};
use crate::{
    client::{Client, Sending},
    comparison::{Comparison, milliseconds},
    filesystem::Fresh,
    lab::Lab,
    peers::{Peer, Server, turns},
    process,
    report::Wanted,
    sample::Samples,
};

const REPETITIONS: usize = 2;

/// So many layers are unpacked at once where the snapshotter allows it.
const AT_ONCE: usize = 3;

/// What is imported has no other reference until the end.
const LEASE: &str = "import";

/// What both did, and what it took besides.
#[derive(Default)]
struct Figures {
    imports: Comparison,
    unpacks: Comparison,
    peaks_mb: [Samples; 2],
    inflate: Samples,
    copy: Samples,
}

pub(super) fn usr_gzip(lab: &mut Lab) -> anyhow::Result<()> {
    usr(lab, Packing::Gzip)
}

pub(super) fn usr_zstd(lab: &mut Lab) -> anyhow::Result<()> {
    usr(lab, Packing::Zstd)
}

fn usr(lab: &mut Lab, packing: Packing) -> anyhow::Result<()> {
    let image = usr_image(lab, packing)?;
    let figures = compare(lab, &image, true)?;
    let (packed, plain) = image.megabytes();
    let title = format!("an image of {:.1} GB, {}", plain / 1e3, packing.name());
    let report = &mut lab.report;
    report.heading(&format!("Import of {title}"));
    report.say(&format!(
        "{} layers made of this machine's `/usr`: {} entries, {plain:.0} MB, packed {packed:.0} MB. The blobs are sent one after the \
         other, message by message; then the layers are unpacked: {AT_ONCE} at once where the snapshotter says that it can settle \
         the parents later, else one after the other.",
        image.layers.len(),
        image.entries,
    ));
    figures.imports.table(report, "import with unpack", Some(plain));
    figures.unpacks.table(report, "the unpack alone", Some(plain));
    let (inflate, copy) = (figures.inflate.median(), figures.copy.median());
    report.say(&format!(
        "Without a daemon: inflating and hashing on two cores {inflate:.0} ms, a synced copy of the tree {copy:.0} ms."
    ));
    let peaks: Vec<String> =
        figures.peaks_mb.iter().map(|peaks| format!("{:.1} MB", peaks.largest())).collect();
    report.say(&format!(
        "The most resident memory during the import: Corten {}, containerd {}.",
        peaks[0], peaks[1]
    ));
    report.speedup(&format!("import of {title}"), 3.0, figures.imports.speedup());
    report.ratio(&format!("unpack of {title}"), figures.unpacks.speedup());
    let bound = inflate.max(copy);
    let times = figures.unpacks.median_ms(Peer::Corten) / bound;
    let than = if inflate > copy { "inflate and hash" } else { "a synced copy" };
    report.target(&format!("unpack of {title}"), Wanted::AtMost(1.6), times, &format!("times {than}"));
    let peak = figures.peaks_mb[Peer::Corten as usize].largest();
    report.target(&format!("peak memory, {title}"), Wanted::AtMost(80.0), peak, "MB resident");
    Ok(())
}

fn usr_image(lab: &Lab, packing: Packing) -> anyhow::Result<Image> {
    let (files, bytes) = lab.options.size((70_000, 2_000_000_000), (3000, 60_000_000));
    Image::of(&Recipe::usr(files, bytes)?, packing, &lab.options.cache)
}

pub(super) fn one_layer(lab: &mut Lab) -> anyhow::Result<()> {
    made(lab, "one layer of 1 GB", lab.options.size([1, 1000, 1_000_000], [1, 20, 1_000_000]))
}

pub(super) fn many_layers(lab: &mut Lab) -> anyhow::Result<()> {
    made(lab, "40 layers of 10 MB", lab.options.size([40, 100, 100_000], [10, 20, 10_000]))
}

pub(super) fn small_files(lab: &mut Lab) -> anyhow::Result<()> {
    made(lab, "100,000 files of 1 kB", lab.options.size([1, 100_000, 1000], [1, 2000, 1000]))
}

fn made(lab: &mut Lab, what: &str, [layers, files, size_bytes]: [usize; 3]) -> anyhow::Result<()> {
    let image = Image::of(&Recipe::made(layers, files, size_bytes), Packing::Gzip, &lab.options.cache)?;
    let figures = compare(lab, &image, false)?;
    let (packed, plain) = image.megabytes();
    lab.report.heading(&format!("Import of {what}"));
    lab.report.say(&format!(
        "{layers} layers of {files} files of {size_bytes} bytes: {plain:.0} MB, packed {packed:.0} MB, with gzip."
    ));
    figures.imports.table(&mut lab.report, "import with unpack", Some(plain));
    figures.unpacks.table(&mut lab.report, "the unpack alone", Some(plain));
    lab.report.speedup(&format!("import of {what}"), 2.0, figures.imports.speedup());
    Ok(())
}

fn compare(lab: &Lab, image: &Image, with_baselines: bool) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for repetition in 0..lab.options.repetitions(REPETITIONS) {
        for peer in turns(repetition) {
            let server = Server::start(peer, &lab.options, ROOM_MB)?;
            let client = lab.client(&server);
            process::forget_peak(server.pid())?;
            let (unpacked, cost) = server.measure(|| {
                let client = lab.block_on(client.leasing(LEASE))?;
                lab.block_on(send(&client, image))?;
                let ((), unpacked) = server.measure(|| lab.block_on(unpack(&client, image)))?;
                Ok(unpacked)
            })?;
            figures.peaks_mb[peer as usize].add(process::peak_mb(server.pid())?);
            figures.imports.add(peer, cost);
            figures.unpacks.add(peer, unpacked);
            if with_baselines && peer == Peer::Corten {
                let tree = server.mounted().join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
                figures.copy.push(baseline::copy(&tree, &lab.options.folder, ROOM_MB)?);
            }
            server.finish()?;
        }
        if with_baselines {
            figures.inflate.push(baseline::inflate(image)?);
        }
    }
    Ok(figures)
}

/// What the syncs of an import cost: the same with a daemon whose syncs the kernel leaves out.
pub(super) fn durability(lab: &mut Lab) -> anyhow::Result<()> {
    let image = usr_image(lab, Packing::Gzip)?;
    let mut times = [Samples::default(), Samples::default()];
    for repetition in 0..lab.options.repetitions(REPETITIONS) {
        let order = if repetition.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for number in order {
            let launcher = match number {
                0 => Vec::new(),
                _ => vec![std::env::current_exe()?.into(), "without-syncs".into()],
            };
            let filesystem = Fresh::new(&lab.options.folder, ROOM_MB)?;
            let server = Server::start_on(Peer::Corten, filesystem, launcher)?;
            let client = lab.client(&server);
            let begin = Instant::now();
            lab.block_on(async { import(&client.leasing(LEASE).await?, &image).await })?;
            times[number].push(begin.elapsed());
            server.finish()?;
        }
    }
    let [with, without] = times.map(|times| times.median());
    let cost = (with / without - 1.0) * 100.0;
    lab.report.heading("The cost of durability");
    lab.report.say(&format!(
        "The import of the gzip image until it is acknowledged: {} ms, and {} ms by a Corten whose system calls for syncing and \
         for early write-back are answered by a seccomp filter without doing anything: {cost:.0} % more.",
        milliseconds(with),
        milliseconds(without),
    ));
    lab.report.target("cost of durability of an import", Wanted::AtMost(15.0), cost, "% of the time without");
    Ok(())
}

async fn import(client: &Client, image: &Image) -> anyhow::Result<()> {
    send(client, image).await?;
    unpack(client, image).await
}

/// Sends the blobs, one after the other, and makes the image.
async fn send(client: &Client, image: &Image) -> anyhow::Result<()> {
    for blob in image.layers.iter().map(|layer| &layer.blob).chain([&image.config, &image.manifest]) {
        client.upload(blob, Sending::Lockstep).await?;
    }
    let row = ImageRow {
        name: format!("localhost/{}:1", image.name),
        target: Some(image.manifest.descriptor(MANIFEST)),
        ..ImageRow::default()
    };
    let message = CreateImageRequest { image: Some(row), ..CreateImageRequest::default() };
    ImagesClient::new(client.channel()).create(client.request(message)).await?;
    Ok(())
}

/// Unpacks the layers: several at once where the parents can be settled later, as containerd's newer clients do it with
/// more than one unpack allowed at once.
async fn unpack(client: &Client, image: &Image) -> anyhow::Result<()> {
    if client.rebases().await? {
        return unpack_at_once(client, image).await;
    }
    let mut parent = "";
    for layer in &image.layers {
        let mounts = client.prepare(&active(layer), parent).await?;
        apply(client, image, layer, mounts).await?;
        client.commit(&active(layer), &layer.chain_id, "", None).await?;
        parent = &layer.chain_id;
    }
    Ok(())
}

/// In the order of those clients: each layer is prepared, and waits for one of the places; when the last has got one, the
/// layers are committed from the lowest to the highest, each when it is there, while those above it are still unpacked.
async fn unpack_at_once(client: &Client, image: &Image) -> anyhow::Result<()> {
    let (reports, applied): (Vec<_>, Vec<_>) = image.layers.iter().map(|_| oneshot::channel::<()>()).unzip();
    let (last_began, may_commit) = oneshot::channel::<()>();
    let applying = async {
        let mut running = FuturesUnordered::new();
        for (layer, report) in image.layers.iter().zip(reports) {
            let mounts = prepare_without_parent(client, layer).await?;
            if running.len() == AT_ONCE {
                running.try_next().await?;
            }
            running.push(async move {
                apply(client, image, layer, mounts).await?;
                // Who commits may have failed.
                let _ = report.send(());
                anyhow::Ok(())
            });
        }
        let _ = last_began.send(());
        running.try_collect::<()>().await
    };
    let committing = async {
        may_commit.await?;
        let mut parent = "";
        for (layer, applied) in image.layers.iter().zip(applied) {
            applied.await?;
            client.commit(&active(layer), &layer.chain_id, parent, None).await?;
            parent = &layer.chain_id;
        }
        anyhow::Ok(())
    };
    try_join(applying, committing).await.map(drop)
}

/// Prepares a layer whose parent is named when it is committed.
async fn prepare_without_parent(client: &Client, layer: &Layer) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = client.prepare(&active(layer), "").await?;
    // As the clients do it (row O13): what the layer deletes must be told to the layers that it will stand on.
    for mount in mounts.iter_mut().filter(|mount| mount.r#type == "bind") {
        mount.options.retain(|option| option != "bind" && option != "rbind");
        mount.options.push(format!("upperdir={}", mount.source));
        "overlay".clone_into(&mut mount.r#type);
        "overlay".clone_into(&mut mount.source);
    }
    Ok(mounts)
}

async fn apply(client: &Client, image: &Image, layer: &Layer, mounts: Vec<Mount>) -> anyhow::Result<()> {
    let descriptor = layer.blob.descriptor(image.packing.media_type());
    let diff_id =
        client.apply(descriptor, mounts).await.with_context(|| format!("apply {}", layer.blob.digest))?;
    ensure!(diff_id == layer.diff_id, "{} became {diff_id}, not {}", layer.blob.digest, layer.diff_id);
    Ok(())
}

fn active(layer: &Layer) -> String {
    format!("extract-{}", layer.chain_id)
}
