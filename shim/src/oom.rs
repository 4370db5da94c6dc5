//! Notices that the kernel killed a process for want of memory (row H41).

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use corten_api::containerd::events::TaskOom;
use corten_types::{Error, Result};
use rustix::{
    event::{EventfdFlags, eventfd},
    fs::inotify,
};
use tokio::{io::unix::AsyncFd, task::JoinHandle};

use crate::{
    cgroup::{Cgroup, key_value},
    log,
    publisher::Publisher,
    watched::watch_stream,
};

/// A watch over one container.
pub(crate) struct OomWatch {
    watcher: Arc<Watcher>,
    task: JoinHandle<()>,
}

struct Watcher {
    container: String,
    publisher: Arc<Publisher>,
    /// The file that counts kills, and the name of the count.
    counts: PathBuf,
    descriptor: AsyncFd<OwnedFd>,
    kind: Kind,
    /// How many events were published.
    published: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An eventfd that the kernel counts up when memory runs out, and once more when the cgroup is removed.
    Eventfd,
    /// An inotify watch on the file of counts.
    Inotify,
}

impl OomWatch {
    /// Watches `cgroup`. `None` if it has no memory controller.
    pub(crate) fn start(cgroup: &Cgroup, container: &str, publisher: Arc<Publisher>) -> Result<Option<Self>> {
        let Some(folder) = cgroup.memory_folder() else { return Ok(None) };
        let failed =
            |error: io::Error| Error::io(format!("watch {} for want of memory", folder.display()), error);
        let (kind, counts, descriptor) = match cgroup {
            Cgroup::V1(_) => {
                let counts = folder.join("memory.oom_control");
                let descriptor = register(&folder, &counts).map_err(failed)?;
                (Kind::Eventfd, counts, descriptor)
            }
            Cgroup::V2(_) => {
                let counts = folder.join("memory.events");
                let descriptor = watch_file(&counts).map_err(failed)?;
                (Kind::Inotify, counts, descriptor)
            }
        };
        let watcher = Arc::new(Watcher {
            container: container.to_owned(),
            publisher,
            counts,
            descriptor: watch_stream(descriptor).map_err(failed)?,
            kind,
            published: AtomicU64::new(0),
        });
        let task = tokio::spawn(Watcher::run(watcher.clone()));
        Ok(Some(Self { watcher, task }))
    }

    /// Ends the watch after a last look: the kernel's news and the end of init come at the same time.
    pub(crate) fn finish(self) {
        self.task.abort();
        if self.watcher.descriptor_fired() {
            self.watcher.news();
        }
        if self.watcher.kills() > 0 && self.watcher.published.load(Ordering::Relaxed) == 0 {
            self.watcher.publish();
        }
    }
}

impl Watcher {
    async fn run(self: Arc<Self>) {
        loop {
            let Ok(mut ready) = self.descriptor.readable().await else { return };
            if self.descriptor_fired() {
                if !self.counts.exists() {
                    return;
                }
                self.news();
            }
            ready.clear_ready();
        }
    }

    /// Empties the descriptor. True if there was something in it.
    fn descriptor_fired(&self) -> bool {
        let mut buffer = [0_u8; 1024];
        let mut fired = false;
        while rustix::io::read(self.descriptor.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {
            fired = true;
        }
        fired
    }

    fn news(&self) {
        match self.kind {
            // The eventfd speaks before the kill, so the count says nothing yet.
            Kind::Eventfd if self.counts.exists() => self.publish(),
            Kind::Eventfd => {}
            // The file changes for other reasons too.
            Kind::Inotify => {
                while self.published.load(Ordering::Relaxed) < self.kills() {
                    self.publish();
                }
            }
        }
    }

    fn kills(&self) -> u64 {
        std::fs::read_to_string(&self.counts)
            .ok()
            .and_then(|text| key_value(&text, "oom_kill"))
            .unwrap_or_default()
    }

    fn publish(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
        log::debug(format_args!("{} ran out of memory", self.container));
        self.publisher.publish(&TaskOom { container_id: self.container.clone() });
    }
}

/// Asks a version 1 cgroup to count an eventfd up.
fn register(folder: &Path, control: &Path) -> io::Result<OwnedFd> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = std::fs::File::open(control)?;
    let order = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    let mut file = std::fs::OpenOptions::new().write(true).open(folder.join("cgroup.event_control"))?;
    io::Write::write_all(&mut file, order.as_bytes())?;
    Ok(event)
}

fn watch_file(path: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY)?;
    Ok(watch)
}
