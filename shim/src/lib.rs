#![doc = include_str!("../README.md")]

mod bootstrap;
mod cgroup;
mod container;
mod delete;
mod events;
mod flags;
mod info;
mod log;
mod oom;
mod options;
mod process;
mod publisher;
mod reaper;
mod serve;
mod service;
mod socket;
mod start;
mod stdio;
mod watched;

use std::process::ExitCode;

use corten_types::Result;

use flags::{Action, Flags};

/// The name of the binary that containerd looks for.
pub const BINARY_NAME: &str = "containerd-shim-runc-v2";

/// Does what the arguments (without the program's name) say, as containerd calls a shim.
///
/// Without an action it serves tasks until the last container is deleted and a shutdown was asked for.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The daemon takes this for the reason why the shim failed.
            eprintln!("{BINARY_NAME}: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl IntoIterator<Item = String>) -> Result<()> {
    let flags = Flags::parse(arguments)?;
    match flags.action {
        Action::Version => {
            println!("{BINARY_NAME}:\n  Version:  {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Action::Info => info::info(),
        Action::Start => start::start(&flags),
        Action::Delete => delete::delete(&flags),
        Action::Serve => serve::serve(&flags),
    }
}
