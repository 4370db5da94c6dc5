//! A process's terminal (row H47).

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
    time::Duration,
};

use corten_types::{Error, Result};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::{io::unix::AsyncFd, sync::watch, task::JoinHandle};

use super::{
    copy::{Step, next, source},
    destination::Destination,
};
use crate::log;

/// How long a terminal that somebody else still holds may be silent after its process has ended.
const SILENCE: Duration = Duration::from_millis(500);

/// The master of a terminal.
///
/// Only the copies keep it open: it is hung up when they end.
pub(crate) struct Terminal {
    master: Weak<AsyncFd<OwnedFd>>,
    life: watch::Sender<Life>,
}

/// What the copy of the output is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// The process has ended; others may hold the terminal.
    ProcessEnded,
    /// The input has ended.
    HangUp,
}

impl Terminal {
    /// Begins to copy from `master` to the client.
    pub(crate) fn attach(master: OwnedFd, output: Option<Destination>) -> Result<(Self, JoinHandle<()>)> {
        let master = Arc::new(source(master)?);
        let (life, lived) = watch::channel(Life::Running);
        let weak = Arc::downgrade(&master);
        let copied = tokio::spawn(copy_output(master, output, lived));
        Ok((Self { master: weak, life }, copied))
    }

    /// Begins to type what comes from `input`. `None` if the terminal is closed already.
    pub(crate) fn type_from(&self, input: AsyncFd<OwnedFd>) -> Option<JoinHandle<()>> {
        let keyboard = Keyboard(self.master.upgrade()?);
        Some(tokio::spawn(copy_input(input, keyboard, self.life.clone())))
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let Some(master) = self.master.upgrade() else { return Ok(()) };
        tcsetwinsize(master.get_ref().as_fd(), size)
            .map_err(|error| Error::io(format!("set a terminal to {columns} by {rows}"), error.into()))
    }

    pub(crate) fn process_ended(&self) {
        self.life.send_if_modified(|life| {
            let running = *life == Life::Running;
            if running {
                *life = Life::ProcessEnded;
            }
            running
        });
    }
}

/// Copies until the last user of the terminal has gone, its process has ended and nothing comes any more, or it is hung up.
async fn copy_output(
    master: Arc<AsyncFd<OwnedFd>>,
    output: Option<Destination>,
    mut life: watch::Receiver<Life>,
) {
    loop {
        let step = tokio::select! {
            biased;
            step = next(&master, output.as_ref()) => step,
            () = over(&mut life) => return,
        };
        let moved = match (step, &output) {
            (Ok(Step::Moved(rest)), Some(output)) if !rest.is_empty() => output.write(&rest).await,
            (Ok(Step::Moved(_)), _) => Ok(()),
            (Ok(Step::Broken(error)), _) => Err(error),
            (Ok(Step::End) | Err(_), _) => return,
        };
        if let Err(error) = moved {
            log::debug(format_args!("write a terminal's output: {error}"));
        }
    }
}

async fn over(life: &mut watch::Receiver<Life>) {
    // The sender lives as long as the terminal; without it only the last user's going counts.
    let Ok(life) = life.wait_for(|life| *life != Life::Running).await.map(|life| *life) else {
        return std::future::pending().await;
    };
    if life == Life::ProcessEnded {
        tokio::time::sleep(SILENCE).await;
    }
}

/// Copies what is typed. When the input ends (which takes a CloseIO) the terminal is hung up, as containerd's shim does.
async fn copy_input(input: AsyncFd<OwnedFd>, keyboard: Keyboard, life: watch::Sender<Life>) {
    loop {
        let Ok(mut ready) = input.readable().await else { return };
        let Ok(read) = ready.try_io(|input| step_into(input.get_ref())) else { continue };
        let Ok(Some(bytes)) = read else {
            life.send_replace(Life::HangUp);
            return;
        };
        if keyboard.type_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn step_into(input: &OwnedFd) -> std::io::Result<Option<Vec<u8>>> {
    let mut chunk = [0_u8; super::CHUNK_BYTES];
    let count = rustix::io::read(input, &mut chunk)?;
    Ok((count > 0).then(|| chunk[..count].to_vec()))
}

/// The master, as something to type on.
struct Keyboard(Arc<AsyncFd<OwnedFd>>);

impl Keyboard {
    async fn type_all(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|master| Ok(rustix::io::write(master.get_ref(), &bytes[written..])?)) {
                Ok(count) => written += count?,
                Err(_would_block) => {}
            }
        }
        Ok(())
    }
}
