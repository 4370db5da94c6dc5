//! Benchmarks side by side with containerd: both daemons in one run, on the same work, ending equally durable.
//!
//! `cargo xtask bench` builds what is measured and runs this.

#![allow(clippy::disallowed_methods, reason = "scratch files need not survive a power cut")]

mod client;
mod comparison;
mod filesystem;
mod lab;
mod layers;
mod options;
mod peers;
mod plot;
mod process;
mod report;
mod sample;
mod snapshots;
mod start;
mod storage;
mod without_syncs;

use anyhow::{bail, ensure};

use crate::{lab::Lab, options::Options};

const USAGE: &str = "usage: corten-benches start|storage|layers [--quick] [--only NAME] [--repetitions N]
         [--on FOLDER] [--cache FOLDER] [--output FOLDER]";

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "without-syncs") {
        return without_syncs::become_program(&words[1..]);
    }
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((suite, words)) = words.split_first() else { bail!(USAGE) };
    let options = Options::parse(words)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "benchmarks mount filesystems and start containers: run them as root"
    );
    let mut lab = Lab::new(suite, options)?;
    match suite.as_str() {
        "start" => start::measure(&mut lab)?,
        "storage" => storage::measure(&mut lab)?,
        "layers" => layers::measure(&mut lab)?,
        _ => bail!(USAGE),
    }
    lab.finish()
}
