//! A real pseudo-terminal around a client.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use anyhow::Context;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::eventually;

/// A program on a pseudo-terminal, and what it has shown so far.
pub struct Pty {
    master: File,
    child: Child,
    shown: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Pty {
    /// Starts `command` on a new terminal of 24 rows and 80 columns, which is its controlling one.
    ///
    /// # Errors
    /// If no terminal can be had or the program does not start.
    pub fn spawn(command: Command) -> anyhow::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        resize(&master, 24, 80)?;
        let slave = File::options().read(true).write(true).open(&name)?;
        // setsid makes the new session take its terminal, so that the client gets SIGWINCH.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let child = wrapped
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave))
            .spawn()
            .context("start a client on a terminal")?;
        drop(wrapped);
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut source, sink) = (master.try_clone()?, Arc::clone(&shown));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                sink.lock().expect("nobody panics while holding this").push_str(&text);
            }
        });
        Ok(Self { master, child, shown, reader: Some(reader) })
    }

    /// Types text.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn type_in(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> anyhow::Result<()> {
        resize(&self.master, rows, columns)
    }

    /// Waits until the screen has shown this text.
    ///
    /// # Errors
    /// If that takes too long; the error has what was shown instead.
    pub fn wait_for(&self, text: &str) -> anyhow::Result<()> {
        eventually(&format!("the terminal to show {text:?}"), || self.shown().contains(text).then_some(()))
            .with_context(|| format!("it shows {:?}", self.shown()))
    }

    /// Everything shown so far.
    #[must_use]
    pub fn shown(&self) -> String {
        self.shown.lock().expect("nobody panics while holding this").clone()
    }

    /// Waits for the program to end.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait(mut self) -> anyhow::Result<ExitStatus> {
        let status = eventually("the client to end", || self.child.try_wait().ok().flatten())
            .with_context(|| format!("it shows {:?}", self.shown()))?;
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        Ok(status)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) -> anyhow::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}
