//! What follows the death of a shim: its container is killed, its traces go, and its exit is made known (row H76).

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use crate::{
    blocking,
    bootstrap::Bootstrap,
    bundle::Bundle,
    connection::{debug_address, remove_dead_socket},
    convert::time_from_wire,
    inner::Inner,
    model::Exit,
    orphan,
    registry::{Key, Reservation},
    task::Task,
};

/// What a process exits with when it is killed (K23).
const KILLED: u32 = 137;
/// What is reported when the clean-up failed and nothing better is known (K23).
const UNKNOWN_STATUS: u32 = 255;

/// A task whose shim died.
pub(crate) struct Dead {
    key: Key,
    bundle: Bundle,
    shim: Option<PathBuf>,
    pid: u32,
    exit: Option<Exit>,
    execs: Vec<(String, u32)>,
    address: Option<String>,
}

impl Dead {
    pub(crate) fn from_task(task: &Arc<Task>) -> Self {
        Self {
            key: task.key.clone(),
            bundle: task.bundle.clone(),
            shim: Some(task.shim.clone()),
            pid: task.pid(),
            exit: task.known_exit(),
            execs: task.running_execs(),
            address: Some(task.connection.address.clone()),
        }
    }

    /// A task whose shim died while no daemon ran.
    pub(crate) fn from_bundle(key: &Key, bundle: &Bundle, shim: Option<PathBuf>) -> Self {
        let pid = std::fs::read_to_string(bundle.file("init.pid")).ok();
        let pid = pid.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let address = Bootstrap::load(bundle).ok().flatten().map(|bootstrap| bootstrap.address);
        Self { key: key.clone(), bundle: bundle.clone(), shim, pid, exit: None, execs: Vec::new(), address }
    }
}

impl Inner {
    /// Cleans up and publishes the exits that the shim owes. The task is gone when `reservation` is dropped, at the end.
    pub(crate) async fn bury(&self, dead: Dead, reservation: Reservation) {
        let exit = self.clean_up(&dead).await;
        self.deactivate(&dead.key).await;
        // Its execs died with it: their exits come before the first process's (H37).
        for (exec_id, pid) in &dead.execs {
            let exit = Exit { pid: *pid, status: KILLED, at: exit.at };
            self.publish_exit(&dead.key, exec_id, exit);
        }
        self.publish_exit(&dead.key, &dead.key.id, exit);
        self.publish_delete(&dead.key, exit);
        drop(reservation);
    }

    /// Removes what a dead shim left, and says how its container ended.
    async fn clean_up(&self, dead: &Dead) -> Exit {
        let _turn = self.burials.acquire().await;
        let answer = match dead.shim.as_deref().and_then(|shim| self.lookup.find_again(shim)) {
            Some(shim) => self.run_delete(&dead.key, &dead.bundle, &shim).await,
            None => Err(corten_types::Error::not_found("the program of its shim is not installed any more")),
        };
        let ended = match answer {
            Ok(answer) => Exit {
                pid: if dead.pid == 0 { answer.pid } else { dead.pid },
                status: answer.exit_status,
                at: time_from_wire(answer.exited_at).or_else(|| Some(SystemTime::now())),
            },
            Err(error) => {
                tracing::error!(key = ?dead.key, error = error.chain(), "cannot clean up after a dead shim");
                let bundle = dead.bundle.clone();
                if let Err(error) = blocking(move || orphan::kill(&bundle)).await {
                    tracing::error!(key = ?dead.key, error = error.chain(), "cannot kill the container of a dead shim");
                }
                Exit { pid: dead.pid, status: UNKNOWN_STATUS, at: Some(SystemTime::now()) }
            }
        };
        if let Some(address) = &dead.address {
            remove_dead_socket(address).await;
            if let Some(address) = debug_address(address, &self.settings.grpc_address, &dead.key) {
                remove_dead_socket(&address).await;
            }
        }
        let bundle = dead.bundle.clone();
        if let Err(error) = blocking(move || bundle.delete()).await {
            tracing::error!(key = ?dead.key, error = error.chain(), "cannot remove the bundle of a dead shim");
        }
        // What the shim said while it lived is nearer to the truth than what its clean-up found.
        dead.exit.map_or(ended, |exit| Exit { pid: ended.pid, ..exit })
    }
}
