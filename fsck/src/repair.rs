//! Repairing: what is damaged is set aside and its rows are dropped, so that an ordinary client brings it back.

mod retire;
mod row;

use corten_metadata::{NamespaceInfo, Stored};
use corten_types::{Digest, Labels, Result};

use crate::{
    Finding, Kind, Store, Thing,
    aside::Aside,
    catalogue::Catalogue,
    check::{Event, Report},
    store::blocking,
};

/// What a repair may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Set snapshots aside also if containers use them. The containers' rows stay; they cannot be started any more.
    pub even_in_use: bool,
}

/// What a repair did.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// The findings, with what became of each.
    pub findings: Vec<Finding>,
    /// How many were set right.
    pub mended: usize,
    /// How much damage is left.
    pub left: usize,
}

/// Repairs what `report` tells of, as far as that is possible, and tells `sink` every finding again with what became of it.
///
/// Nothing is deleted: a damaged blob, the files of a damaged snapshot and of those that stand on it are moved to a folder
/// `set-aside-<date>` below the root of their store, and damaged rows are copied there. It takes the locks that removals take.
///
/// # Errors
/// That the disk or a database failed. What was done is done, and whole; another check tells what is left.
pub async fn repair(
    store: &Store,
    report: Report,
    options: RepairOptions,
    sink: &mut (dyn FnMut(Event) + Send),
) -> Result<Repaired> {
    let catalogue = Catalogue::read(store).await?;
    let mut repair = Repair { store, catalogue: &catalogue, options, aside: Aside::new(&store.disk) };
    let mut findings = report.findings;
    for finding in &mut findings {
        match repair.mend_single(finding).await {
            Ok(Some(outcome)) => {
                finding.outcome = outcome;
                finding.mended = true;
            }
            Ok(None) => {}
            Err(error) => finding.outcome = format!("it could not be repaired: {}", error.chain()),
        }
    }
    repair.retire(&mut findings).await?;
    repair.mend_rows(&mut findings).await?;
    let mut repaired = Repaired::default();
    for finding in findings {
        repaired.mended += usize::from(finding.mended);
        repaired.left += usize::from(finding.is_open_damage());
        sink(Event::Finding(finding.clone()));
        repaired.findings.push(finding);
    }
    Ok(repaired)
}

struct Repair<'a> {
    store: &'a Store,
    catalogue: &'a Catalogue,
    options: RepairOptions,
    aside: Aside,
}

impl Repair<'_> {
    /// What concerns one thing alone. Answers with what was done, if anything was.
    async fn mend_single(&mut self, finding: &Finding) -> Result<Option<String>> {
        match (finding.kind, &finding.thing) {
            (Kind::BlobDamaged | Kind::BlobMissing, Thing::Blob(digest)) => {
                self.set_blob_aside(digest).await.map(Some)
            }
            (Kind::BlobSize, Thing::Blob(digest)) => {
                let path = self.store.blob_path(digest);
                let size_bytes = path
                    .metadata()
                    .map_err(|error| corten_types::Error::io("cannot look at the blob", error))?
                    .len();
                self.store.metadata.correct_blob_size(digest, size_bytes).await?;
                Ok(Some(format!("its rows say {size_bytes} now")))
            }
            (Kind::IngestMissing, Thing::Ingest { namespace, key }) => {
                let Some(_hold) = self.store.metadata.hold_ingest(namespace, key) else { return Ok(None) };
                self.store.metadata.forget_ingest(namespace, key).await?;
                Ok(Some("its row was dropped".to_owned()))
            }
            (Kind::NamespaceMissing, Thing::Namespace(name)) => {
                let info = NamespaceInfo { name: name.parse()?, labels: Labels::new() };
                self.store.metadata.restore(vec![Stored::Namespace(info)]).await?;
                Ok(Some("its row was made again".to_owned()))
            }
            (Kind::DatabaseDamaged, Thing::Database(path)) => self.reindex(path).await,
            _ => Ok(None),
        }
    }

    /// Moved first, then the rows: a crash between leaves rows without a blob, which is found and dropped; the other way
    /// round it would leave a blob without rows, which is removed.
    async fn set_blob_aside(&mut self, digest: &Digest) -> Result<String> {
        let _hold = self.store.metadata.hold_blob(digest).await;
        let path = self.store.blob_path(digest);
        let mut outcome = String::new();
        if path.symlink_metadata().is_ok() {
            let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
            let place = self.aside.move_there(self.store.content.root(), &path, &name)?;
            outcome = format!("it was moved to {}; ", place.display());
        }
        let namespaces = self.store.metadata.forget_blob(digest).await?;
        Ok(match namespaces.as_slice() {
            [] => format!("{outcome}no namespace had it"),
            names => format!("{outcome}its rows in {} were dropped: pull the images again", names.join(", ")),
        })
    }

    async fn reindex(&self, path: &str) -> Result<Option<String>> {
        let metadata = &self.store.metadata;
        let left = if metadata.database_path().display().to_string() == path {
            metadata.reindex().await?;
            metadata.check_database().await?
        } else {
            let wanted = std::path::Path::new(path).parent();
            let found = self.store.snapshotters.values().find(|inspector| Some(inspector.root()) == wanted);
            let Some(inspector) = found.cloned() else { return Ok(None) };
            blocking(move || {
                inspector.reindex()?;
                inspector.check_database()
            })
            .await?
        };
        match left.first() {
            None => Ok(Some("its indexes were made again".to_owned())),
            Some(problem) => {
                Err(corten_types::Error::data_loss(format!("new indexes are not enough: {problem}")))
            }
        }
    }
}
