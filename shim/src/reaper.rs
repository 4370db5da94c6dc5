//! The one part of the shim that waits for children, its own and those that containers leave to it (row H39).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt, io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use corten_runtime_runc::Processes;
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) pid: u32,
    /// The exit status as `wait` gives it.
    pub(crate) raw: i32,
    pub(crate) at: SystemTime,
}

impl Exit {
    /// The exit code, or 128 and the signal's number.
    pub(crate) fn code(&self) -> u32 {
        let status = ExitStatus::from_raw(self.raw);
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        u32::try_from(code).unwrap_or(255)
    }
}

/// Waits for all children and hands their exits to whoever asked for them.
#[derive(Default)]
pub(crate) struct Reaper {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who waits for a process. Several wait only if a process id was used again before an exit was handled.
    waiters: HashMap<u32, Vec<oneshot::Sender<Exit>>>,
    /// Exits that nobody waited for, with the start that was the newest then. Kept while a start may still claim them.
    unclaimed: VecDeque<(u64, Exit)>,
    /// The starts that have not learnt their process id yet.
    starts: BTreeSet<u64>,
    last_start: u64,
    /// How many parts of the program start helpers of their own just now.
    pauses: usize,
}

impl Reaper {
    /// Makes this process the one that orphans below it are left to.
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        set_child_subreaper(Some(getpid()))?;
        Ok(Arc::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects every child that has ended.
    pub(crate) fn reap(&self) {
        let mut state = self.lock();
        if state.pauses > 0 {
            return;
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
            state.deliver(Exit { pid, raw: status.as_raw(), at: SystemTime::now() });
        }
    }

    /// Starts `command`. Its exit comes over the channel.
    pub(crate) fn spawn(&self, mut command: Command) -> io::Result<(u32, oneshot::Receiver<Exit>)> {
        // The lock keeps an exit from being collected before somebody waits for it.
        let mut state = self.lock();
        let child = command.spawn()?;
        let pid = child.id();
        Ok((pid, state.wait_for(pid)))
    }

    /// Keeps exits of unknown processes from now on, until the value is dropped: a process can end before its id is known
    /// (row H38).
    pub(crate) fn expect_start(self: &Arc<Self>) -> ExpectedStart {
        let mut state = self.lock();
        state.last_start += 1;
        let number = state.last_start;
        state.starts.insert(number);
        ExpectedStart { reaper: self.clone(), number }
    }

    /// Leaves children alone until the value is dropped, for code that starts and waits for helpers itself.
    pub(crate) fn pause(self: &Arc<Self>) -> Pause {
        self.lock().pauses += 1;
        Pause(self.clone())
    }
}

impl State {
    fn deliver(&mut self, exit: Exit) {
        for waiter in self.waiters.remove(&exit.pid).unwrap_or_default() {
            // A waiter that gave up is no longer interested.
            let _ = waiter.send(exit);
        }
        // Also after a delivery: a new process may have got the id of one whose exit was still awaited.
        if !self.starts.is_empty() {
            self.unclaimed.push_back((self.last_start, exit));
        }
    }

    fn wait_for(&mut self, pid: u32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.entry(pid).or_default().push(sender);
        receiver
    }

    fn forget_unclaimed(&mut self) {
        match self.starts.first() {
            None => self.unclaimed = VecDeque::new(),
            Some(oldest) => {
                while self.unclaimed.front().is_some_and(|(number, _)| number < oldest) {
                    self.unclaimed.pop_front();
                }
            }
        }
    }
}

/// A process is being started whose id is not known yet.
pub(crate) struct ExpectedStart {
    reaper: Arc<Reaper>,
    number: u64,
}

impl ExpectedStart {
    /// The exit of `pid`, also if it came while the process was being started.
    pub(crate) fn claim(&self, pid: u32) -> oneshot::Receiver<Exit> {
        let mut state = self.reaper.lock();
        let early = state
            .unclaimed
            .iter()
            .rfind(|(number, exit)| *number >= self.number && exit.pid == pid)
            .map(|(_, exit)| *exit);
        match early {
            Some(exit) => {
                let (sender, receiver) = oneshot::channel();
                let _ = sender.send(exit);
                receiver
            }
            None => state.wait_for(pid),
        }
    }
}

impl Drop for ExpectedStart {
    fn drop(&mut self) {
        let mut state = self.reaper.lock();
        state.starts.remove(&self.number);
        state.forget_unclaimed();
    }
}

/// See [`Reaper::pause`].
pub(crate) struct Pause(Arc<Reaper>);

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.lock().pauses -= 1;
        self.0.reap();
    }
}

/// The signal that says that children have ended.
pub(crate) fn child_signal() -> io::Result<Signal> {
    signal(SignalKind::child())
}

/// Collects children whenever the signal comes. Never ends.
pub(crate) async fn run(reaper: Arc<Reaper>, mut children: Signal) {
    loop {
        reaper.reap();
        if children.recv().await.is_none() {
            return;
        }
    }
}

#[async_trait]
impl Processes for Reaper {
    async fn run(&self, command: Command) -> io::Result<ExitStatus> {
        let (_, exit) = self.spawn(command)?;
        exit.await.map(|exit| ExitStatus::from_raw(exit.raw)).map_err(io::Error::other)
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Reaper")
    }
}

#[cfg(test)]
#[path = "reaper/tests.rs"]
pub(crate) mod tests;
