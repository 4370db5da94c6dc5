//! Clients at work, and what they find after a crash.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use corten_tests::Daemon;
use tokio::task::JoinHandle;

use crate::{
    clients::{Client, Clients, Depth},
    session::Session,
};

/// Lets the clients work until the daemon is killed after `life`.
pub(crate) async fn work_until_killed(daemon: &mut Daemon, clients: Clients, life: Duration) -> Clients {
    let killed = Arc::new(AtomicBool::new(false));
    let work = |mut client: Box<dyn Client>| {
        let (killed, session) = (Arc::clone(&killed), Session::open(&daemon.address(), &client.namespace()));
        tokio::spawn(async move {
            loop {
                if let Err(error) = client.step(&session).await {
                    assert!(killed.load(Ordering::SeqCst), "{}: {error:?}", client.namespace());
                    return client;
                }
            }
        })
    };
    let tasks: Vec<_> = clients.into_iter().map(work).collect();
    // Not to wait for something: this is the instant of the kill.
    tokio::time::sleep(life).await;
    killed.store(true, Ordering::SeqCst);
    daemon.kill().unwrap();
    join(tasks).await.unwrap()
}

/// Lets the clients work until each of them has done so many steps; those that are faster do more meanwhile.
pub(crate) async fn work(socket: &Path, clients: Clients, steps: u64) -> Clients {
    let behind = Arc::new(std::sync::atomic::AtomicUsize::new(clients.len()));
    let work = |mut client: Box<dyn Client>| {
        let (behind, session) = (Arc::clone(&behind), Session::open(socket, &client.namespace()));
        tokio::spawn(async move {
            let mut done = 0;
            while behind.load(Ordering::SeqCst) > 0 {
                let step = client.step(&session).await;
                step.unwrap_or_else(|error| panic!("{}: {error:?}", client.namespace()));
                done += 1;
                if done == steps {
                    behind.fetch_sub(1, Ordering::SeqCst);
                }
            }
            client
        })
    };
    join(clients.into_iter().map(work).collect()).await.unwrap()
}

/// Compares what is there with what the clients know; the error is the first difference.
pub(crate) async fn check(clients: Clients, socket: &Path, depth: Depth) -> Result<Clients, String> {
    let check = |mut client: Box<dyn Client>| {
        let session = Session::open(socket, &client.namespace());
        tokio::spawn(async move {
            client.check(&session, depth).await;
            client
        })
    };
    join(clients.into_iter().map(check).collect()).await
}

pub(crate) async fn clear(clients: Clients, socket: &Path) {
    for mut client in clients {
        client.clear(&Session::open(socket, &client.namespace())).await;
    }
}

async fn join(tasks: Vec<JoinHandle<Box<dyn Client>>>) -> Result<Clients, String> {
    let mut clients = Clients::new();
    let mut differences = Vec::new();
    for task in tasks {
        match task.await {
            Ok(client) => clients.push(client),
            Err(error) => differences.push(said(error)),
        }
    }
    if differences.is_empty() { Ok(clients) } else { Err(differences.join("\n")) }
}

fn said(error: tokio::task::JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}
