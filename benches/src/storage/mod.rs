//! Content, metadata, leases and collection.

mod churn;
mod collection;
mod ingest;
mod list;
mod read;
mod rows;

use crate::{
    lab::Lab,
    peers::{PEERS, Peer},
    report::Wanted,
};

/// An idle daemon may have this much in memory, and this much more a moment after work.
const IDLE_MB: f64 = 15.0;
const GROWTH_MB: f64 = 10.0;

pub(crate) fn measure(lab: &mut Lab) -> anyhow::Result<()> {
    lab.run("ingest", ingest::measure)?;
    lab.run("read", read::measure)?;
    lab.run("churn", churn::measure)?;
    lab.run("list", list::measure)?;
    lab.run("collection", collection::measure)?;
    memory(lab);
    Ok(())
}

/// What every measurement noted of the daemons' memory.
fn memory(lab: &mut Lab) {
    let residents = std::mem::take(&mut lab.residents);
    let of = |peer: Peer| residents.iter().filter(move |resident| resident.peer == peer);
    let idle = |peer: Peer| of(peer).map(|resident| resident.idle_mb).fold(0.0, f64::max);
    let mut rows = vec![vec!["just started (the most of all runs)".to_owned()]];
    rows[0].extend(PEERS.map(|peer| format!("{:.1}", idle(peer))));
    for resident in of(Peer::Corten) {
        let other = of(Peer::Containerd).find(|other| other.after == resident.after);
        let other = other.map_or(0.0, |other| other.settled_mb);
        rows.push(vec![
            format!("after: {}", resident.after),
            format!("{:.1}", resident.settled_mb),
            format!("{other:.1}"),
        ]);
    }
    let growth = of(Peer::Corten).map(|resident| resident.settled_mb - resident.idle_mb).fold(0.0, f64::max);
    let report = &mut lab.report;
    report.heading("Memory of the daemon");
    report.say("Resident megabytes (a million bytes), a second after the work. What a daemon has mapped of its program counts.");
    report.table(&["", "Corten", "containerd"], &rows);
    report.target("memory of the idle daemon", Wanted::AtMost(IDLE_MB), idle(Peer::Corten), "MB resident");
    report.target(
        "memory kept after work, the worst",
        Wanted::AtMost(GROWTH_MB),
        growth,
        "MB more than idle",
    );
}
