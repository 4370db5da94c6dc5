//! `corten.services.fsck.v1.Fsck`: checking and repairing the store of a daemon that serves.

use std::sync::Arc;

use corten_api::{
    corten::services::fsck::v1::{
        Affected as WireAffected, Finding as WireFinding, Progress as WireProgress, ReadDatabase,
        Rebuilt as WireRebuilt, Released, RunRequest, RunResponse, Summary as WireSummary,
        fsck_server::{Fsck, FsckServer},
        run_response::Step as WireStep,
    },
    grpc::to_status,
};
use corten_fsck::{
    Event, Finding, Progress, RepairOptions, Request as Wanted, Scope, Step, Store, Summary, run,
};
use corten_types::Error;
use futures::{StreamExt, stream};
use tokio::sync::{Mutex, mpsc};
use tonic::{Request, Response};

use super::{
    answer::{Answer, Messages},
    serve,
};

/// Of every so many things that were looked at, one is told: a client need not hear of each blob.
const PROGRESS_EVERY: u64 = 64;

/// Checks and repairs, one run at a time.
#[derive(Clone, Debug)]
pub struct FsckService {
    store: Store,
    turn: Arc<Mutex<()>>,
}

impl FsckService {
    /// Over the stores that the daemon serves.
    pub fn new(store: Store) -> Self {
        Self { store, turn: Arc::default() }
    }

    /// The service for [`GrpcBuilder::add_service`](crate::transport::GrpcBuilder::add_service).
    pub fn into_server(self) -> FsckServer<Self> {
        serve!(FsckServer, self)
    }
}

#[tonic::async_trait]
impl Fsck for FsckService {
    type RunStream = Messages<RunResponse>;

    /// A check ends when its client leaves; what changes something is finished.
    async fn run(&self, request: Request<RunRequest>) -> Answer<Self::RunStream> {
        let wanted = from_wire(request.into_inner());
        let turn = Arc::clone(&self.turn).try_lock_owned().map_err(|_| {
            to_status(Error::unavailable("another check or repair is running; wait for its end"))
        })?;
        // As many messages as there are findings, and their number is limited.
        let (sender, receiver) = mpsc::unbounded_channel();
        let store = self.store.clone();
        let changes = wanted.rebuild || wanted.accept || wanted.repair.is_some();
        tokio::spawn(async move {
            let _turn = turn;
            let told = sender.clone();
            let mut tell = move |step: Step| {
                if is_worth_telling(&step) {
                    // The client may be gone.
                    let _ = told.send(Ok(to_wire(step)));
                }
            };
            let work = run(&store, &wanted, &mut tell);
            let ended = tokio::select! {
                ended = work => ended,
                () = sender.closed(), if !changes => return,
            };
            let _ = sender.send(ended.map(summary_to_wire).map_err(to_status));
        });
        let messages = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        Ok(Response::new(messages.boxed()))
    }
}

fn is_worth_telling(step: &Step) -> bool {
    match step {
        Step::Checked(Event::Progress(progress)) => {
            progress.done % PROGRESS_EVERY == 0 || progress.done == progress.total
        }
        _ => true,
    }
}

fn from_wire(request: RunRequest) -> Wanted {
    let RunRequest { blobs, trees, rows, namespace, rebuild, repair, even_in_use, accept } = request;
    let all = !(blobs || trees || rows);
    Wanted {
        scope: Scope {
            blobs: blobs || all,
            trees: trees || all,
            rows: rows || all,
            namespace: Some(namespace).filter(|name| !name.is_empty()),
        },
        rebuild,
        repair: repair.then_some(RepairOptions { even_in_use }),
        accept,
    }
}

/// What a run tells, as a message.
#[must_use]
pub fn to_wire(step: Step) -> RunResponse {
    let step = match step {
        Step::Checked(Event::Progress(Progress { stage, done, total, bytes })) => {
            WireStep::Progress(WireProgress { stage: stage.to_owned(), done, total, bytes })
        }
        Step::Checked(Event::Finding(finding)) => WireStep::Finding(finding_to_wire(finding)),
        Step::Repaired(finding) => WireStep::Repaired(finding_to_wire(finding)),
        Step::Rebuilt(rebuilt) => {
            let read = rebuilt.read.into_iter().map(|(path, complete)| ReadDatabase { path, complete });
            WireStep::Rebuilt(WireRebuilt {
                read: read.collect(),
                snapshotter_rows: rebuilt.snapshotter_rows,
                rows: rebuilt.rows,
                snapshots: rebuilt.snapshots,
                blobs: rebuilt.blobs,
                containers: rebuilt.containers,
            })
        }
        Step::Released(reasons) => WireStep::Released(Released { reasons }),
    };
    RunResponse { step: Some(step) }
}

/// How a run ended, as a message.
#[must_use]
pub fn summary_to_wire(summary: Summary) -> RunResponse {
    let Summary { rows, blobs, trees, bytes, damage, mended, incomplete, notes } = summary;
    let summary = WireSummary { rows, blobs, trees, bytes, damage, mended, incomplete, notes };
    RunResponse { step: Some(WireStep::Summary(summary)) }
}

fn finding_to_wire(finding: Finding) -> WireFinding {
    let affects = finding.affects.into_iter().map(|affected| WireAffected {
        kind: affected.kind,
        namespace: affected.namespace,
        name: affected.name,
    });
    WireFinding {
        kind: finding.kind.as_str().to_owned(),
        severity: finding.severity.as_str().to_owned(),
        thing: finding.thing.to_string(),
        problem: finding.problem,
        affects: affects.collect(),
        advice: finding.advice,
        outcome: finding.outcome,
        mended: finding.mended,
    }
}
