//! What one run does, in which order: the same for a program that opened the store and for a daemon that serves it.

use corten_types::Result;
use serde::Serialize;

use crate::{
    Event, Finding, Kind, Rebuilt, RepairOptions, Scope, Severity, Store, accept, check, rebuild, repair,
};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What is looked at.
    pub scope: Scope,
    /// Make rows that are missing, first of all.
    pub rebuild: bool,
    /// Repair what was found.
    pub repair: Option<RepairOptions>,
    /// End the quarantine, last of all.
    pub accept: bool,
}

/// What a run tells.
#[derive(Clone, Debug)]
pub enum Step {
    /// Rows were made.
    Rebuilt(Rebuilt),
    /// How far the check is, and what it found.
    Checked(Event),
    /// What became of a finding.
    Repaired(Finding),
    /// The quarantine ended: what it was.
    Released(Vec<String>),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Rows that were looked at.
    pub rows: u64,
    /// Blobs that were hashed.
    pub blobs: u64,
    /// Trees that were compared with their manifests.
    pub trees: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Damage that is left.
    pub damage: u64,
    /// Damage that was repaired or accepted.
    pub mended: u64,
    /// Things that refer to what is not here.
    pub incomplete: u64,
    /// Notes.
    pub notes: u64,
}

impl Summary {
    /// The exit code of a program that ends like this: 0 for nothing, 1 for damage that is left, 4 if something only has to be
    /// pulled again.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match (self.damage, self.incomplete) {
            (0, 0) => 0,
            (0, _) => 4,
            _ => 1,
        }
    }
}

/// Rebuilds, checks, repairs and accepts, as far as `request` says so, and tells `sink`.
///
/// # Errors
/// As those of the steps. What was done is done, and whole.
pub async fn run(store: &Store, request: &Request, sink: &mut (dyn FnMut(Step) + Send)) -> Result<Summary> {
    if request.rebuild {
        sink(Step::Rebuilt(rebuild(store).await?));
    }
    let report = check(store, &request.scope, &mut |event| sink(Step::Checked(event))).await?;
    let mut summary = Summary {
        rows: report.rows,
        blobs: report.blobs,
        trees: report.trees,
        bytes: report.bytes,
        damage: report.more,
        ..Summary::default()
    };
    let mut findings = report.findings.clone();
    if let Some(options) = request.repair {
        let mut tell = |event| {
            if let Event::Finding(finding) = event
                && !finding.outcome.is_empty()
            {
                sink(Step::Repaired(finding));
            }
        };
        findings = repair(store, report, options, &mut tell).await?.findings;
        if request.scope.rows {
            repair_what_was_hidden(store, &request.scope, options, &mut findings, &mut tell).await?;
        }
    }
    if request.accept {
        let released = accept(store).await?;
        for finding in findings.iter_mut().filter(|finding| finding.kind == Kind::Quarantine) {
            finding.mended = true;
        }
        sink(Step::Released(released));
    }
    for finding in &findings {
        match finding.severity {
            Severity::Damage if finding.mended => summary.mended += 1,
            Severity::Damage => summary.damage += 1,
            Severity::Incomplete => summary.incomplete += 1,
            Severity::Note => summary.notes += 1,
        }
    }
    Ok(summary)
}

/// A row that could not be read may have hidden what stood on it: looks at the rows once more. Whatever that finds goes with all that
/// stands on it, so that nothing can be hidden a second time.
async fn repair_what_was_hidden(
    store: &Store,
    scope: &Scope,
    options: RepairOptions,
    findings: &mut Vec<Finding>,
    tell: &mut (dyn FnMut(Event) + Send),
) -> Result<()> {
    let rows = Scope { blobs: false, trees: false, ..scope.clone() };
    if !findings.iter().any(|finding| finding.mended && finding.kind.may_hide()) {
        return Ok(());
    }
    let report = check(store, &rows, &mut |_| {}).await?;
    if report.is_clean() {
        return Ok(());
    }
    let mut repaired = repair(store, report, options, tell).await?.findings;
    repaired.retain(|finding| finding.severity == Severity::Damage);
    findings.retain(|old| {
        !repaired.iter().any(|new| new.kind == old.kind && new.thing.to_string() == old.thing.to_string())
    });
    findings.extend(repaired);
    Ok(())
}
