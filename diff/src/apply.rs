//! Applying a layer: what runs on the thread that unpacks it.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use corten_mount::TemporaryMount;
use corten_types::{Descriptor, Error, Mount, Result};
use tokio::sync::Notify;

use crate::{
    ApplyOptions,
    decompress::decompressor,
    media::{Encoding, LAYER},
    pipeline,
    processor::{Input, MAX_PROCESSORS, Processes, StreamProcessor},
    source::Source,
    target::Target,
    unpack::{TreeObserver, TreeSink, UnpackOptions, Unpacked, clear_umask, unpack_with},
};

/// How much of a blob is read at once.
const READ_BYTES: usize = 256 * 1024;

/// The programs that a layer passes through before it can be decompressed, and with what type each begins.
#[derive(Debug)]
pub(crate) struct Chain {
    steps: Vec<(StreamProcessor, String)>,
    encoding: Encoding,
}

impl Chain {
    /// Finds the way from `media_type` to a plain archive (row A01). Configured programs are tried first, the last
    /// configured before the others.
    pub(crate) fn find(media_type: &str, configured: &[StreamProcessor]) -> Result<Self> {
        let mut steps = Vec::new();
        let mut current = media_type.to_owned();
        loop {
            let accepts = |processor: &&StreamProcessor| processor.accepts.contains(&current);
            if let Some(processor) = configured.iter().rev().find(accepts) {
                if steps.len() == MAX_PROCESSORS {
                    return Err(Error::invalid_argument(format!(
                        "the configured stream processors turn {media_type} into other types without an end"
                    )));
                }
                let returns = processor.returns.clone();
                steps.push((processor.clone(), std::mem::replace(&mut current, returns)));
                if current == LAYER {
                    return Ok(Self { steps, encoding: Encoding::Plain });
                }
                continue;
            }
            let encoding = Encoding::of(&current)
                .ok_or_else(|| Error::unimplemented(format!("no processor for media-type {current}")))?;
            return Ok(Self { steps, encoding });
        }
    }
}

/// What can be stopped from outside.
#[derive(Default)]
pub(crate) struct Control {
    is_cancelled: AtomicBool,
    processes: Processes,
    is_over: Notify,
}

impl Control {
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Nobody wants more of the layer.
    fn stop(&self) {
        self.processes.kill();
        self.is_over.notify_one();
    }

    /// Waits until nobody wants more of the layer. What feeds it must end then: its reader waits for that.
    pub(crate) async fn over(&self) {
        self.is_over.notified().await;
    }
}

/// One layer to unpack.
pub(crate) struct Job {
    pub(crate) source: Source,
    pub(crate) chain: Chain,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) options: ApplyOptions,
    pub(crate) temporary_folder: PathBuf,
    pub(crate) control: Arc<Control>,
    pub(crate) observer: Option<Arc<dyn TreeObserver>>,
    /// How many bytes the archive may have.
    pub(crate) max_bytes: u64,
}

impl Job {
    /// Unpacks the layer and returns the descriptor of its uncompressed form.
    pub(crate) fn run(self) -> Result<Descriptor> {
        match Target::of(&self.mounts) {
            Target::Folder { path, whiteouts, lower_layers } => {
                let options = UnpackOptions { whiteouts, lower_layers, ..self.unpack_options() };
                let sink = self.observer.as_deref().and_then(|observer| observe(observer, &path));
                self.unpack_into(&path, &options, sink, || Ok(()))
            }
            Target::Mounts => {
                let mounted = TemporaryMount::new(&self.mounts, &self.temporary_folder)?;
                let options = self.unpack_options();
                let outcome = self.unpack_into(mounted.path(), &options, None, || Ok(()));
                let closed = mounted.close();
                let descriptor = outcome?;
                closed.map(|()| descriptor)
            }
        }
    }

    pub(crate) fn unpack_options(&self) -> UnpackOptions {
        UnpackOptions { sync: self.options.sync_fs, max_bytes: self.max_bytes, ..UnpackOptions::default() }
    }

    /// `verify` is asked when all is unpacked, and before anybody is told that it is.
    pub(crate) fn unpack_into(
        self,
        root: &Path,
        options: &UnpackOptions,
        mut sink: Option<Box<dyn TreeSink>>,
        verify: impl FnOnce() -> Result<()>,
    ) -> Result<Descriptor> {
        let Self { source, chain, control, max_bytes, options: ApplyOptions { payloads, .. }, .. } = self;
        let mut input = Input::Source(Box::new(source));
        for (processor, media_type) in &chain.steps {
            input = Input::Output(control.processes.start(processor, media_type, &payloads, input)?);
        }
        let encoding = chain.encoding;
        let open = move || open(input, encoding);
        let stop = || control.stop();
        let outcome = pipeline::run(open, max_bytes, &control.is_cancelled, stop, |stream| {
            // After the programs were started, which have the process's umask.
            clear_umask();
            let sink = sink.as_mut().map(|sink| &mut **sink as &mut dyn TreeSink);
            let unpacked = unpack_with(stream, root, options, sink)?;
            report(root, unpacked);
            Ok(())
        });
        // A program that failed is why the archive ended early, so its error is the better one. If the archive was
        // refused, what became of the program says nothing.
        let is_archives_fault = outcome.as_ref().is_err_and(|error| !is_damage(error));
        let ended = control.processes.wait();
        if !is_archives_fault {
            ended?;
        }
        let ((), hashed) = outcome?;
        verify()?;
        if let Some(sink) = sink {
            warn_of(root, sink.finish());
        }
        Ok(Descriptor::new(LAYER, hashed.digest, hashed.size_bytes))
    }
}

pub(crate) fn observe(observer: &dyn TreeObserver, root: &Path) -> Option<Box<dyn TreeSink>> {
    let observed = observer.observe(root);
    let reason = match observed {
        Ok(sink) => return sink,
        Err(error) => error,
    };
    warn_of(root, Err(reason));
    None
}

/// Nothing depends on what is told of a layer.
fn warn_of(root: &Path, outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(root = %root.display(), %error, "what a layer contains could not be recorded");
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), corten_types::ErrorKind::DataLoss)
}

fn open(input: Input, encoding: Encoding) -> io::Result<Box<dyn Read + Send>> {
    let source: Box<dyn Read + Send> = match input {
        Input::Source(source) => source,
        Input::Output(file) => Box::<File>::new(file),
    };
    match encoding {
        Encoding::Plain => Ok(source),
        Encoding::Detect => decompressor(BufReader::with_capacity(READ_BYTES, source)),
    }
}

fn report(root: &Path, unpacked: Unpacked) {
    if unpacked.skipped_entries > 0 || unpacked.skipped_xattrs > 0 {
        tracing::warn!(
            root = %root.display(),
            devices = unpacked.skipped_entries,
            xattrs = unpacked.skipped_xattrs,
            "parts of a layer were left out because this system does not support or allow them"
        );
    }
}
