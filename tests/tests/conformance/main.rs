//! The suites of the contracts through the daemon as it runs: each case asks over gRPC, in a namespace of its own.
//!
//! `rows` looks at single messages; with `CORTEN_TEST_PEER=containerd` it looks at containerd's.
//!
//! One daemon serves all cases of this process. Runners that give each case a process of its own get a daemon for each.

#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod rows;
mod subject;

use std::process::ExitCode;

use corten_content_store::testsuite as content_suite;
use corten_snapshotter::testsuite as snapshotter_suite;
use corten_tests::{Daemon, DaemonOptions, Kind, root_or_skip};
use libtest_mimic::{Arguments, Trial};

use subject::{Content, Server, Snapshots};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list && !rustix::process::geteuid().is_root() {
        // Runners read the list: nothing but names may stand in it.
        return ExitCode::SUCCESS;
    }
    if !root_or_skip() {
        return ExitCode::SUCCESS;
    }
    let server = Server::default();
    let trials = trials(&server);
    let chosen = |trial: &Trial| !arguments.is_filtered_out(trial) && !arguments.is_ignored(trial);
    if arguments.list || !trials.iter().any(chosen) {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    // Before the cases: a daemon that a case started would live in the case's mount namespace.
    let daemon = Daemon::start_with(options()).unwrap();
    server.is_at(daemon.address(), daemon.root());
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed() {
        eprintln!("log of the daemon:\n{}", daemon.log());
    }
    daemon.finish().unwrap();
    conclusion.exit_code()
}

fn trials(server: &Server) -> Vec<Trial> {
    let mut trials = rows::trials(server);
    if DaemonOptions::default().kind != Kind::Corten {
        // The suites ask containerd in the tests of `proxy`, which know where it differs.
        return trials;
    }
    let content = content_suite::trials(Content::new(server));
    trials.extend(content.into_iter().map(|trial| trial.with_kind("content")));
    for snapshotter in ["overlayfs", "native"] {
        let snapshots = snapshotter_suite::trials(Snapshots::new(server, snapshotter));
        trials.extend(snapshots.into_iter().map(|trial| trial.with_kind(snapshotter)));
    }
    trials
}

/// A daemon that collects only when asked, so that a case that takes long on a busy machine is a case of the contract
/// and not of the collection.
fn options() -> DaemonOptions {
    let configuration = "[plugins.\"io.containerd.gc.v1.scheduler\"]\npause_threshold = 0.02\n\
                         deletion_threshold = 1000\nmutation_threshold = 1000\nschedule_delay = \"1h\"\n\
                         startup_delay = \"1h\"\n";
    DaemonOptions { configuration: configuration.to_owned(), ..DaemonOptions::default() }
}
