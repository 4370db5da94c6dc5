//! What every measurement gets: the options, a runtime for the client, and the report.

use std::{future::Future, time::Instant};

use tokio::runtime::Runtime;

use crate::{
    client::Client,
    options::Options,
    peers::{Peer, Server},
    report::Report,
};

/// What a daemon had in memory before and after some work, in megabytes.
#[derive(Clone, Debug)]
pub(crate) struct Resident {
    pub(crate) after: String,
    pub(crate) peer: Peer,
    pub(crate) idle_mb: f64,
    pub(crate) settled_mb: f64,
}

pub(crate) struct Lab {
    pub(crate) options: Options,
    pub(crate) report: Report,
    pub(crate) residents: Vec<Resident>,
    runtime: Runtime,
}

impl Lab {
    /// For the suite called `name`.
    pub(crate) fn new(name: &str, options: Options) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { report: Report::new(name, &options)?, options, residents: Vec::new(), runtime })
    }

    /// Runs one measurement if it is wanted, and says how long that took.
    pub(crate) fn run(
        &mut self,
        name: &str,
        measure: fn(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.options.wants(name) {
            return Ok(());
        }
        let begin = Instant::now();
        measure(self).map_err(|error| error.context(format!("measure {name}")))?;
        eprintln!("{name}: {:.0} s", begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Runs the client's side of something.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A client of this server.
    pub(crate) fn client(&self, server: &Server) -> Client {
        self.block_on(async { Client::open(&server.socket()) })
    }

    /// Notes what the daemon keeps in memory after its work.
    pub(crate) fn note_memory(&mut self, after: &str, peer: Peer, server: &Server) -> anyhow::Result<()> {
        let (idle_mb, settled_mb) = (server.idle_mb(), server.settled_mb()?);
        self.residents.push(Resident { after: after.to_owned(), peer, idle_mb, settled_mb });
        Ok(())
    }

    /// Writes the report.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.report.write(&self.options)
    }
}
