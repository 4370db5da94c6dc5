//! The shim itself: one thread that serves tasks until nothing is left to look after.

use std::{sync::Arc, time::Duration};

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

/// Serves the socket that `start` has passed on.
pub(crate) fn serve(flags: &Flags) -> Result<()> {
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

/// The path of the socket that was passed on.
fn listening_path() -> Option<std::path::PathBuf> {
    // SAFETY: `start` put the listener at this number; it is only looked at.
    let listener = unsafe { std::os::fd::BorrowedFd::borrow_raw(LISTENER_DESCRIPTOR) };
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
