//! The same work by both, several times.

use crate::{
    peers::{Cost, PEERS, Peer},
    report::Report,
    sample::Samples,
};

#[derive(Debug, Default)]
pub(crate) struct Comparison {
    walls: [Samples; 2],
    cpus: [Samples; 2],
}

impl Comparison {
    pub(crate) fn add(&mut self, peer: Peer, cost: Cost) {
        self.walls[peer as usize].push(cost.wall);
        self.cpus[peer as usize].add(cost.cpu_seconds);
    }

    /// The middle duration, in milliseconds.
    pub(crate) fn median_ms(&self, peer: Peer) -> f64 {
        self.walls[peer as usize].median()
    }

    /// The mean of the processor time, in seconds: the kernel counts in hundredths.
    pub(crate) fn cpu_seconds(&self, peer: Peer) -> f64 {
        self.cpus[peer as usize].mean()
    }

    /// How many times faster Corten is.
    pub(crate) fn speedup(&self) -> f64 {
        self.median_ms(Peer::Containerd) / self.median_ms(Peer::Corten)
    }

    /// Corten's processor time as a share of containerd's.
    pub(crate) fn cpu_share(&self) -> f64 {
        self.cpu_seconds(Peer::Corten) / self.cpu_seconds(Peer::Containerd)
    }

    /// A table of both, with the rate for work on `megabytes` where that means something.
    pub(crate) fn table(&self, report: &mut Report, what: &str, megabytes: Option<f64>) {
        let mut head =
            vec![what, "median ms", "slowest ms", "CPU seconds of the daemon", "ratio of the medians"];
        if megabytes.is_some() {
            head.push("MB a second");
        }
        let rows = PEERS.map(|peer| {
            let (walls, median) = (&self.walls[peer as usize], self.median_ms(peer));
            let ratio = self.median_ms(Peer::Containerd) / median;
            let mut row = vec![
                peer.to_string(),
                milliseconds(median),
                milliseconds(walls.largest()),
                format!("{:.3}", self.cpu_seconds(peer)),
                format!("{ratio:.2}"),
            ];
            row.extend(megabytes.map(|megabytes| format!("{:.0}", megabytes / median * 1000.0)));
            row
        });
        report.table(&head, &rows);
    }
}

/// With as many digits as mean something.
pub(crate) fn milliseconds(time: f64) -> String {
    if time < 100.0 { format!("{time:.2}") } else { format!("{time:.0}") }
}
