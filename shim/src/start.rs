//! The `start` action: a new shim, or the address of the group's (rows H03, H07, H12 to H18).

use std::{
    io,
    os::{
        fd::{OwnedFd, RawFd},
        unix::{net::UnixListener, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use corten_types::{Error, Result};
use rustix::thread::CoreSchedulingScope;

use crate::{
    bootstrap::{Bootstrap, read_stdin},
    cgroup,
    flags::Flags,
    options::write_file,
    socket::{self, Bound},
};

/// Where a shim finds the socket that it serves.
pub(crate) const LISTENER_DESCRIPTOR: RawFd = 3;

/// The file of a bundle that holds the shim's address: daemons before 2.0 find a shim again by it.
pub(crate) const ADDRESS_FILE: &str = "address";

/// The variable with the daemon's ttrpc address.
pub(crate) const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";

/// The worst score that the kernel knows.
const MAX_OOM_SCORE: i32 = 1000;

/// Starts a shim for the container of the current folder, unless its group has one, and answers with the address.
pub(crate) fn start(flags: &Flags) -> Result<()> {
    let bootstrap = Bootstrap::parse(&read_stdin()?, flags)?;
    let bundle = Path::new(".");
    let group = socket::grouping_id(bundle, &flags.id)?;
    let path = socket::path(&bootstrap.socket_folder, &bootstrap.grpc_address, &flags.namespace, &group);
    let address = socket::address(&path);
    let started = match socket::bind(&path)? {
        Bound::Answering => None,
        Bound::New(listener) => Some(launch(flags, &bootstrap, listener).inspect_err(|_| {
            // Nobody serves the socket that was just made.
            let _ = std::fs::remove_file(&path);
        })?),
    };
    let finished =
        write_file(&bundle.join(ADDRESS_FILE), address.as_bytes()).and_then(|()| bootstrap.answer(&address));
    if let (Err(_), Some(mut child)) = (&finished, started) {
        // The daemon will not learn of this shim, so it must not stay.
        let _ = child.kill();
        let _ = child.wait();
        let _ = std::fs::remove_file(&path);
    }
    finished
}

fn launch(flags: &Flags, bootstrap: &Bootstrap, listener: UnixListener) -> Result<Child> {
    let what = "start the shim's process";
    let own = std::env::current_exe().map_err(|error| Error::io(what, error))?;
    let mut command = Command::new(own);
    command
        .args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &bootstrap.grpc_address])
        .args(["-publish-binary", &bootstrap.publish_binary]);
    if bootstrap.debug {
        command.arg("-debug");
    }
    if let Some(address) = &bootstrap.ttrpc_address {
        command.env(TTRPC_ADDRESS, address);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let listener = OwnedFd::from(listener);
    let share_core = std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty());
    // SAFETY: the closure makes system calls only; the descriptor that it holds is open until the command is dropped.
    unsafe {
        command.pre_exec(move || {
            if share_core {
                rustix::thread::create_core_scheduling_cookie(
                    rustix::process::getpid(),
                    CoreSchedulingScope::ProcessGroup,
                )?;
            }
            crate::stdio::place(&listener, LISTENER_DESCRIPTOR)
        });
    }
    let mut child = command.spawn().map_err(|error| Error::io(what, error))?;
    if let Err(error) = prepare(&child, &bootstrap.options.shim_cgroup) {
        // A shim that is not where it was asked to be is not handed out.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok(child)
}

/// Puts the new shim into its cgroup and makes it a better victim than the daemon (rows H16 and H17).
fn prepare(child: &Child, shim_cgroup: &str) -> Result<()> {
    if !shim_cgroup.is_empty() {
        cgroup::join(shim_cgroup, child.id())?;
    }
    adjust_oom_score(child.id()).map_err(|error| Error::io("adjust the OOM score of the shim", error))
}

fn adjust_oom_score(pid: u32) -> io::Result<()> {
    let parent = std::os::unix::process::parent_id();
    let text = std::fs::read_to_string(format!("/proc/{parent}/oom_score_adj"))?;
    let score: i32 = text.trim().parse().map_err(io::Error::other)?;
    let score = (score + 1).min(MAX_OOM_SCORE).to_string();
    let file = std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/oom_score_adj"));
    match file.and_then(|mut file| io::Write::write_all(&mut file, score.as_bytes())) {
        // Without the right to lower a score, as in a user namespace, the shim keeps the one that it inherited.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        adjusted => adjusted,
    }
}
