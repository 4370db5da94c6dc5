//! One check: what is compared with what, in which order.

use std::sync::Arc;

use corten_types::Result;

use crate::{Finding, Kind, Severity, Store, catalogue::Catalogue};

/// More findings are told and counted, and not kept for a repair.
const MOST_FINDINGS: usize = 100_000;

/// What is looked at. The default is everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Blobs against their digests and rows.
    pub blobs: bool,
    /// The files of snapshots against their manifests.
    pub trees: bool,
    /// Rows against each other and against what they speak of; databases; ingests; references.
    pub rows: bool,
    /// Only what this namespace has.
    pub namespace: Option<String>,
}

impl Default for Scope {
    fn default() -> Self {
        Self { blobs: true, trees: true, rows: true, namespace: None }
    }
}

impl Scope {
    /// Whether a namespace is looked at.
    pub(crate) fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// `rows`, `blobs` or `trees`.
    pub stage: &'static str,
    /// How many were looked at.
    pub done: u64,
    /// How many there are.
    pub total: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

/// What a check tells while it runs.
#[derive(Clone, Debug)]
pub enum Event {
    /// How far it is.
    Progress(Progress),
    /// What was found.
    Finding(Finding),
}

/// Who is told.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(Event) + Send);

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The findings, at most 100,000.
    pub findings: Vec<Finding>,
    /// How many more there were.
    pub more: u64,
    /// How many rows were looked at.
    pub rows: u64,
    /// How many blobs were hashed.
    pub blobs: u64,
    /// How many trees were compared with their manifests.
    pub trees: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

impl Report {
    /// How many findings are as bad as `severity`, and not mended.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity && !finding.mended).count()
    }

    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.more == 0 && self.count(Severity::Damage) == 0
    }
}

/// A check that runs.
pub(crate) struct Run<'a, 'b> {
    pub(crate) store: &'a Store,
    pub(crate) scope: &'a Scope,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) report: Report,
    sink: Sink<'b>,
}

impl Run<'_, '_> {
    pub(crate) fn found(&mut self, finding: Finding) {
        (self.sink)(Event::Finding(finding.clone()));
        if self.report.findings.len() < MOST_FINDINGS {
            self.report.findings.push(finding);
        } else {
            self.report.more += 1;
        }
    }

    pub(crate) fn progress(&mut self, stage: &'static str, done: u64, total: u64) {
        let bytes = self.report.bytes;
        (self.sink)(Event::Progress(Progress { stage, done, total, bytes }));
    }
}

/// Looks at everything in `scope` and tells `sink` what it finds. Nothing is changed.
///
/// Memory does not grow with rows or bytes: rows are sorted in a file in the folder for temporary files. A store that is served may change meanwhile: whatever looks wrong
/// is looked at again, under the lock that changing it takes, before it is told.
///
/// # Errors
/// That something could not be looked at: a database or folder that cannot be read. What was found until then was told.
pub async fn check(store: &Store, scope: &Scope, sink: &mut (dyn FnMut(Event) + Send)) -> Result<Report> {
    let catalogue = Arc::new(Catalogue::read(store).await?);
    let mut run = Run { store, scope, catalogue, report: Report::default(), sink };
    run.report.rows = run.catalogue.rows;
    if scope.rows {
        run.check_rows().await?;
        run.check_snapshots().await?;
        run.check_references().await?;
    }
    if scope.blobs {
        run.check_blobs().await?;
    }
    if scope.trees {
        run.check_trees().await?;
    }
    let mut report = run.report;
    report.findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.kind));
    Ok(report)
}

impl Kind {
    /// Whether something else may be found when it is mended: what could not be read, or was dropped without what stands on it.
    pub(crate) fn may_hide(self) -> bool {
        matches!(self, Self::RowDamaged | Self::DatabaseDamaged | Self::NamespaceMissing)
    }

    /// Whether a repair sets the thing aside with what stands on it.
    pub(crate) fn retires(self) -> bool {
        matches!(
            self,
            Self::TreeDamaged
                | Self::TreeMissing
                | Self::ManifestDamaged
                | Self::SnapshotMissing
                | Self::SnapshotParent
        )
    }
}
