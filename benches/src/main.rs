//! Benchmarks side by side with containerd: both daemons in one run, on the same work, ending equally durable.
//!
//! `cargo xtask bench` builds what is measured and runs this; it prints Markdown for `docs/benchmarks.md`.

mod filesystem;
mod first_run;
mod import;
mod memory;
mod sample;

use anyhow::ensure;
use corten_tests::Kind;

/// The two daemons that are compared, each with its own shim.
const PEERS: [(Kind, &str); 2] = [(Kind::Corten, "Corten"), (Kind::Containerd, "containerd")];

fn main() -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "benchmarks start containers: run them as root");
    println!("{}", sample::machine()?);
    first_run::measure()?;
    memory::measure()?;
    import::measure()
}
