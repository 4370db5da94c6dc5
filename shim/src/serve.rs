//! The shim itself: one thread that serves tasks until nothing is left to look after.

use std::{
    os::fd::{BorrowedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use corten_types::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::asynchronous::Server;

use crate::{
    flags::Flags,
    log,
    publisher::{Destination, Publisher},
    reaper::{self, Reaper},
    service::{self, Shim},
    start::{LISTENER_DESCRIPTOR, TTRPC_ADDRESS},
};

/// Threads for calls that can only block (mounts); they end when they are idle.
const MAX_BLOCKING_THREADS: usize = 4;

/// How long an idle thread of these stays.
const THREAD_KEEP_ALIVE: Duration = Duration::from_millis(500);

/// The stack of one of these.
const THREAD_STACK_BYTES: usize = 256 * 1024;

/// How long the shim waits for the daemon to take the last events before it ends.
const FLUSH_DEADLINE: Duration = Duration::from_secs(10);

/// How long the shim stays without a container. Daemons create one at once; one that died between the two left it behind.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// Serves the socket that `start` has passed on.
pub(crate) fn serve(flags: &Flags) -> Result<()> {
    close_foreign_descriptors().map_err(|error| Error::io("close inherited descriptors", error))?;
    log::open(flags.debug);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
        .map_err(|error| Error::io("start the shim", error))?;
    let served = runtime.block_on(run(flags));
    if let Err(error) = &served {
        log::warn(format_args!("the shim ends: {}", error.chain()));
    }
    // A blocking call that never returns must not keep the shim alive.
    runtime.shutdown_background();
    served
}

async fn run(flags: &Flags) -> Result<()> {
    let failed = |error| Error::io("start the shim", error);
    let socket_path = listening_path();
    let reaper = Reaper::new().map_err(failed)?;
    let children = reaper::child_signal().map_err(failed)?;
    let publisher = Publisher::new(&flags.namespace, destination(flags));
    let shim = Arc::new(Shim::new(&flags.namespace, reaper.clone(), publisher.clone()));
    let mut server = listen(&shim)?;
    server.start().await.map_err(|error| Error::internal("serve tasks").with_source(error))?;
    let reaping = tokio::spawn(reaper::run(reaper.clone(), children));
    let publishing = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.run(reaper).await }
    });
    ended(&shim).await?;
    if let Some(path) = socket_path {
        // From here on a start of the group makes a new shim.
        let _ = std::fs::remove_file(path);
    }
    publisher.flush(FLUSH_DEADLINE).await;
    let _ = server.shutdown().await;
    publishing.abort();
    reaping.abort();
    Ok(())
}

/// Waits for a Shutdown without containers, or for a signal that asks the shim to end.
async fn ended(shim: &Shim) -> Result<()> {
    let failed = |error| Error::io("wait for signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        () = shim.shut_down() => {}
        () = shim.abandoned(FORGOTTEN_AFTER) => log::warn(format_args!("no daemon has used this shim for long")),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn listen(shim: &Arc<Shim>) -> Result<Server> {
    // SAFETY: `start` put the listener at this number, and nothing else in this process uses it.
    let server = unsafe { Server::new().add_unix_listener(LISTENER_DESCRIPTOR) }
        .map_err(|error| Error::invalid_argument("serve the socket passed by `start`").with_source(error))?;
    Ok(service::register(server, shim))
}

/// Closes what the daemon inherited and did not keep from its children: a shim outlives those who wait for the other ends.
fn close_foreign_descriptors() -> std::io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > LISTENER_DESCRIPTOR)
        .collect();
    for number in open {
        // The folder that was just read is among them and closed already.
        // SAFETY: nothing in this process has opened a descriptor above the listener yet.
        if rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok() {
            // SAFETY: as above, so nobody else closes or uses it.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

/// The path of the socket that was passed on.
fn listening_path() -> Option<std::path::PathBuf> {
    // SAFETY: `start` put the listener at this number; it is only looked at.
    let listener = unsafe { BorrowedFd::borrow_raw(LISTENER_DESCRIPTOR) };
    let name = rustix::net::getsockname(listener).ok()?;
    let address = rustix::net::SocketAddrUnix::try_from(name).ok()?;
    let path = address.path()?;
    Some(std::path::PathBuf::from(path.to_str().ok()?))
}

/// Where the daemon takes events.
fn destination(flags: &Flags) -> Destination {
    match std::env::var(TTRPC_ADDRESS) {
        Ok(address) if !address.is_empty() => Destination::Ttrpc(address),
        _ => Destination::Binary { program: flags.publish_binary.clone(), address: flags.address.clone() },
    }
}
