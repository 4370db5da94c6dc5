//! `cortend fsck`: checks and repairs a store that no daemon has open, or asks the daemon that has.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, bail};
use corten_api::corten::services::fsck::v1::{
    Finding, RunRequest, RunResponse, Summary, fsck_client::FsckClient, run_response::Step,
};
use corten_disk::{LockError, RootLock};
use corten_fsck::{Layout, RepairOptions, Request, Scope, SnapshotterLayout, Store};
use corten_proxy::Connection;
use corten_server::services::fsck::{summary_to_wire, to_wire};
use serde_json::{Value, json};

use crate::{
    cli::{FsckFormat, FsckOptions, FsckPart},
    config::Settings,
    stores,
};

/// The exit code of a run that did not come to its end.
pub const FAILED: u8 = 3;

/// Does what the command line says and answers with the exit code: 0 nothing is damaged, 1 damage is left, 4 something has to
/// be pulled again.
///
/// # Errors
/// If there is no store, or it cannot be opened or read, or the daemon that has it cannot be asked.
pub fn run(options: &FsckOptions, settings: &Settings) -> anyhow::Result<u8> {
    let root = &settings.root;
    if !root.is_dir() {
        bail!("there is no store: {} is no folder", root.display());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut printer = Printer::new(options);
    match RootLock::acquire(root, "cortend fsck") {
        Ok(lock) => {
            let summary = runtime.block_on(offline(options, settings, &mut printer));
            drop(lock);
            summary
        }
        Err(LockError::Held { holder, .. }) => {
            printer.say(&format!("{} is in use by {holder}: it is asked to do it", root.display()));
            runtime.block_on(through_daemon(options, &settings.grpc.address, &mut printer))
        }
        Err(error) => Err(error.into()),
    }
}

/// Where the stores of these settings are.
fn layout(settings: &Settings) -> Layout {
    let root = &settings.root;
    let [overlay, native] = ["overlayfs", "native"].map(|name| stores::snapshotter_folder(root, name));
    let snapshotter = |name: &str, root, files| SnapshotterLayout { name: name.to_owned(), root, files };
    Layout {
        content: stores::content_folder(root),
        metadata: stores::metadata_path(root),
        snapshotters: vec![
            snapshotter("overlayfs", settings.overlay.root_path.clone().unwrap_or(overlay), "fs"),
            snapshotter("native", settings.native_root.clone().unwrap_or(native), ""),
        ],
        bundles: Some(stores::bundles(&settings.state)),
    }
}

async fn offline(options: &FsckOptions, settings: &Settings, printer: &mut Printer) -> anyhow::Result<u8> {
    let store = Store::open(layout(settings)).await.context("open the store")?;
    let parts = |wanted| options.only.is_empty() || options.only.contains(&wanted);
    let request = Request {
        scope: Scope {
            blobs: parts(FsckPart::Blobs),
            trees: parts(FsckPart::Trees),
            rows: parts(FsckPart::Rows),
            namespace: options.namespace.clone(),
        },
        rebuild: options.rebuild,
        repair: options.repair.then_some(RepairOptions { even_in_use: options.even_in_use }),
        accept: options.accept,
    };
    let ended = corten_fsck::run(&store, &request, &mut |step| printer.print(to_wire(step))).await;
    store.close().await.context("close the store")?;
    let summary = ended?;
    printer.print(summary_to_wire(summary));
    Ok(summary.exit_code())
}

async fn through_daemon(options: &FsckOptions, address: &Path, printer: &mut Printer) -> anyhow::Result<u8> {
    let request = RunRequest {
        blobs: options.only.contains(&FsckPart::Blobs),
        trees: options.only.contains(&FsckPart::Trees),
        rows: options.only.contains(&FsckPart::Rows),
        namespace: options.namespace.clone().unwrap_or_default(),
        rebuild: options.rebuild,
        repair: options.repair,
        even_in_use: options.even_in_use,
        accept: options.accept,
    };
    let asked = || format!("ask the daemon at {}", address.display());
    let mut client = FsckClient::new(Connection::unix(address).channel());
    let mut messages = client.run(request).await.with_context(asked)?.into_inner();
    let mut code = None;
    while let Some(message) = messages.message().await.with_context(asked)? {
        if let Some(Step::Summary(summary)) = &message.step {
            let Summary { rows, blobs, trees, bytes, damage, mended, incomplete, notes } = *summary;
            let summary =
                corten_fsck::Summary { rows, blobs, trees, bytes, damage, mended, incomplete, notes };
            code = Some(summary.exit_code());
        }
        printer.print(message);
    }
    code.context("the daemon ended before the check did")
}

/// Tells people or programs.
struct Printer {
    is_json: bool,
    shows_notes: bool,
    shows_progress: bool,
    has_progress_line: bool,
}

impl Printer {
    fn new(options: &FsckOptions) -> Self {
        Self {
            is_json: options.format == FsckFormat::Json,
            shows_notes: options.notes,
            shows_progress: io::IsTerminal::is_terminal(&io::stderr()),
            has_progress_line: false,
        }
    }

    /// Something beside what was found.
    fn say(&mut self, text: &str) {
        self.end_progress();
        eprintln!("{text}");
    }

    fn print(&mut self, message: RunResponse) {
        let Some(step) = message.step else { return };
        if let Step::Progress(progress) = &step {
            if self.shows_progress {
                eprint!("\r{}: {} of {}\x1b[K", progress.stage, progress.done, progress.total);
                self.has_progress_line = true;
            }
            return;
        }
        self.end_progress();
        let line = if self.is_json { to_json(&step).to_string() } else { self.to_text(&step) };
        if !line.is_empty() {
            // A reader that has enough ends this program no later than the check.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    fn end_progress(&mut self) {
        if std::mem::take(&mut self.has_progress_line) {
            eprintln!();
        }
    }

    fn to_text(&self, step: &Step) -> String {
        match step {
            Step::Progress(_) => String::new(),
            Step::Finding(finding) if finding.severity == "note" && !self.shows_notes => String::new(),
            Step::Finding(finding) => finding_text(finding, &finding.advice),
            Step::Repaired(finding) => {
                let word = if finding.mended { "mended" } else { "left" };
                format!("{word}: {}: {}: {}", finding.kind, finding.thing, finding.outcome)
            }
            Step::Rebuilt(rebuilt) => {
                let mut lines: Vec<String> = Vec::new();
                for database in &rebuilt.read {
                    let part = if database.complete { "all" } else { "a part" };
                    lines.push(format!("rebuilt: {part} of {} could be read", database.path));
                }
                lines.push(format!(
                    "rebuilt: {} rows of snapshotters and {} other rows taken over; rows made for {} snapshots, {} blobs \
                     and {} containers",
                    rebuilt.snapshotter_rows, rebuilt.rows, rebuilt.snapshots, rebuilt.blobs, rebuilt.containers
                ));
                lines.join("\n")
            }
            Step::Released(released) if released.reasons.is_empty() => "there was no quarantine".to_owned(),
            Step::Released(released) => released
                .reasons
                .iter()
                .map(|reason| format!("quarantine released: {reason}"))
                .collect::<Vec<_>>()
                .join("\n"),
            Step::Summary(summary) => format!(
                "{} rows, {} blobs and {} trees checked, {} bytes read: {} damaged, {} mended, {} incomplete, {} notes",
                summary.rows,
                summary.blobs,
                summary.trees,
                summary.bytes,
                summary.damage,
                summary.mended,
                summary.incomplete,
                summary.notes
            ),
        }
    }
}

fn finding_text(finding: &Finding, last: &str) -> String {
    let Finding { severity, kind, thing, problem, affects, .. } = finding;
    let mut text = format!("{severity}: {kind}: {thing}: {problem}");
    for affected in affects {
        let slash = if affected.name.is_empty() { "" } else { "/" };
        text.push_str(&format!(
            "\n    affects {} {}{slash}{}",
            affected.kind, affected.namespace, affected.name
        ));
    }
    format!("{text}\n    {last}")
}

/// One object a line: `step` says which.
fn to_json(step: &Step) -> Value {
    match step {
        Step::Progress(progress) => json!({ "step": "progress", "stage": progress.stage }),
        Step::Finding(finding) => finding_json("finding", finding),
        Step::Repaired(finding) => finding_json("repaired", finding),
        Step::Rebuilt(rebuilt) => {
            let read: Vec<Value> = rebuilt
                .read
                .iter()
                .map(|database| json!({ "path": database.path, "complete": database.complete }))
                .collect();
            json!({
                "step": "rebuilt", "read": read, "snapshotter_rows": rebuilt.snapshotter_rows,
                "rows": rebuilt.rows, "snapshots": rebuilt.snapshots, "blobs": rebuilt.blobs,
                "containers": rebuilt.containers,
            })
        }
        Step::Released(released) => json!({ "step": "released", "reasons": released.reasons }),
        Step::Summary(summary) => json!({
            "step": "summary", "rows": summary.rows, "blobs": summary.blobs, "trees": summary.trees,
            "bytes": summary.bytes, "damage": summary.damage, "mended": summary.mended,
            "incomplete": summary.incomplete, "notes": summary.notes,
        }),
    }
}

fn finding_json(step: &str, finding: &Finding) -> Value {
    let Finding { kind, severity, thing, problem, affects, advice, outcome, mended } = finding;
    let affects: Vec<Value> = affects
        .iter()
        .map(|one| json!({ "kind": one.kind, "namespace": one.namespace, "name": one.name }))
        .collect();
    json!({
        "step": step, "kind": kind, "severity": severity, "thing": thing, "problem": problem,
        "affects": affects, "advice": advice, "outcome": outcome, "mended": mended,
    })
}
