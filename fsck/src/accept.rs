//! The operator accepts what is: the quarantine ends.

use corten_metadata::{Health, Stored, Table};
use corten_types::{Error, Result};

use crate::{Store, catalogue::PAGE_ROWS, store::blocking};

/// Ends the quarantine of the store and of its snapshotters: folders belong to the databases that are there now. Says what was
/// released; nothing if there was no quarantine. From the next start on what no row speaks of is removed.
///
/// # Errors
/// `FailedPrecondition`: rows are damaged, which would be quarantine again: repair them first. Others: the disk.
pub async fn accept(store: &Store) -> Result<Vec<String>> {
    for table in Table::ALL {
        let mut after = None;
        loop {
            let page = store.metadata.stored(table, after, PAGE_ROWS).await?;
            if page.rows.iter().any(|row| matches!(row, Stored::Damaged(_))) {
                let name = table.name();
                return Err(Error::failed_precondition(format!(
                    "the quarantine cannot be released: rows of the table {name} are damaged; repair them first"
                )));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let mut released = Vec::new();
    for (name, inspector) in &store.snapshotters {
        if let Some(reason) = inspector.quarantine() {
            let inspector = inspector.clone();
            blocking(move || inspector.release_quarantine()).await?;
            released.push(format!("snapshotter {name}: {reason}"));
        }
    }
    if let Health::Quarantine { reason, .. } = store.metadata.health() {
        store.metadata.release_quarantine().await?;
        released.push(format!("metadata: {reason}"));
    }
    Ok(released)
}
