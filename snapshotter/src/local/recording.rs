//! Recording what a layer puts into a snapshot, and whether that is still all at its commit.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_disk::Disk;
use corten_types::{Error, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::manifest::{Entry, Seal, Writer};
use crate::usage::Survey;

/// The clock of filesystems advances in steps of up to 10 ms; so often it is looked at, so long apart.
const CLOCK_LOOKS: usize = 100;
const CLOCK_PAUSE: Duration = Duration::from_millis(1);

/// Whoever knows which folders are snapshots that a layer may be put into.
pub trait RecordTrees: Send + Sync {
    /// Begins to record what is put into the folder `tree` (absolute), as the mounts of an active snapshot name it: an
    /// overlay's `upperdir`, or the source of a bind mount. None if the folder is not such a snapshot's, or not
    /// empty: then there will be no manifest. It blocks.
    ///
    /// # Errors
    /// Those of the disk and the database. Nothing depends on the recording.
    fn record(&self, tree: &Path) -> Result<Option<Recorder>>;
}

/// Takes what is put into a snapshot. The manifest that comes of it is kept by the commit if nothing else wrote to the
/// snapshot. Dropping it unfinished means that there is none.
#[derive(Debug)]
pub struct Recorder {
    recordings: Arc<Recordings>,
    disk: Disk,
    id: u64,
    token: u64,
    path: PathBuf,
    writer: Option<Writer>,
}

impl Recorder {
    /// Something was put at `path`, as for [`Writer::put`].
    pub fn put(&mut self, path: &[u8], entry: Entry<'_>) {
        if let Some(writer) = &mut self.writer {
            writer.put(path, entry);
        }
    }

    /// What was put at `path`, and below it, was removed again, as for [`Writer::remove`].
    pub fn remove(&mut self, path: &[u8]) {
        if let Some(writer) = &mut self.writer {
            writer.remove(path);
        }
    }

    /// The layer is unpacked: nothing in the tree, and not its root, is changed after this in any way, or the manifest is
    /// dropped at the commit. Folders that were made because a path led through them have to have been put, too. It
    /// blocks.
    ///
    /// # Errors
    /// As [`Writer::seal`]. The snapshot is whole all the same, and only has no manifest.
    pub fn finish(mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let ended = now(ClockId::Realtime);
        let seal = writer.seal()?;
        // What is changed from now on gets a later time, also from a clock that stands still between its ticks.
        let mut looks = 0;
        while now(ClockId::RealtimeCoarse) <= ended {
            looks += 1;
            if looks == CLOCK_LOOKS {
                return Err(Error::unavailable("the clock stands still: no manifest can be kept"));
            }
            std::thread::sleep(CLOCK_PAUSE);
        }
        self.recordings.finish(self.id, self.token, Recorded { seal, ended });
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.recordings.give_up(self.id, self.token) {
            return;
        }
        // What stays is replaced by the next recording, and goes with the snapshot.
        let _ = self.disk.remove_file(&self.path);
    }
}

/// A manifest that was made, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded {
    seal: Seal,
    ended: (i64, i64),
}

impl Recorded {
    /// The checksum of the manifest, if the tree is still what the manifest tells of.
    pub(super) fn holds(&self, survey: &Survey) -> Option<u32> {
        let is_same = self.seal.entries == survey.entries
            && self.seal.file_bytes == survey.file_bytes
            && survey.changed <= self.ended;
        is_same.then_some(self.seal.checksum)
    }
}

/// The recordings of snapshots that are not committed, by number.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    states: Mutex<HashMap<u64, State>>,
    next_token: AtomicU64,
}

#[derive(Debug)]
enum State {
    Recording { token: u64 },
    Finished(Recorded),
}

impl Recordings {
    /// Begins a recording, unless there is one: two layers at once cannot be told apart.
    pub(super) fn begin(self: &Arc<Self>, disk: &Disk, id: u64, path: &Path) -> Result<Option<Recorder>> {
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        if self.states().insert(id, State::Recording { token }).is_some() {
            self.states().remove(&id);
            return Ok(None);
        }
        let mut recorder = Recorder {
            recordings: Arc::clone(self),
            disk: disk.clone(),
            id,
            token,
            path: path.to_owned(),
            writer: None,
        };
        recorder.writer = Some(Writer::create(disk, path)?);
        Ok(Some(recorder))
    }

    /// What was recorded of a snapshot; a recording that still goes on is given up.
    pub(super) fn take(&self, id: u64) -> Option<Recorded> {
        match self.states().remove(&id)? {
            State::Recording { .. } => None,
            State::Finished(recorded) => Some(recorded),
        }
    }

    /// Undoes [`Recordings::take`].
    pub(super) fn put_back(&self, id: u64, recorded: Option<Recorded>) {
        if let Some(recorded) = recorded {
            self.states().insert(id, State::Finished(recorded));
        }
    }

    fn finish(&self, id: u64, token: u64, recorded: Recorded) {
        if let Some(state) = self.states().get_mut(&id)
            && state.is_of(token)
        {
            *state = State::Finished(recorded);
        }
    }

    /// Ends a recording that was not finished. Says whether the manifest is of no use.
    fn give_up(&self, id: u64, token: u64) -> bool {
        let mut states = self.states();
        let is_going_on = states.get(&id).is_some_and(|state| state.is_of(token));
        if is_going_on {
            states.remove(&id);
        }
        is_going_on
    }

    fn states(&self) -> MutexGuard<'_, HashMap<u64, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_of(&self, token: u64) -> bool {
        matches!(self, Self::Recording { token: mine } if *mine == token)
    }
}

fn now(clock: ClockId) -> (i64, i64) {
    let time = clock_gettime(clock);
    (time.tv_sec, time.tv_nsec)
}
