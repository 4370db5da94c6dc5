//! Damaged rows: copied aside, dropped, and made again from what they spoke of.

use std::collections::BTreeSet;

use corten_metadata::{DamagedRow, In, Lease, NamespaceInfo, Resource, Stored, Table};
use corten_types::{Digest, Labels, Result};

use super::{Repair, retire};
use crate::{Finding, Kind, Thing, catalogue::PAGE_ROWS, rebuild, store::blocking};

impl Repair<'_> {
    /// Drops damaged rows. What they may have kept is held by the lease `recovered` of their namespace.
    pub(super) async fn mend_rows(&mut self, findings: &mut [Finding]) -> Result<()> {
        let mut namespaces = BTreeSet::new();
        for finding in findings.iter_mut().filter(|finding| finding.kind == Kind::RowDamaged) {
            let mended = match &finding.thing {
                Thing::Row(row) => {
                    namespaces.extend(row.key.first().cloned().filter(|name| !name.is_empty()));
                    self.mend_row(row).await
                }
                Thing::SnapshotterRow { snapshotter, id, content } => {
                    self.mend_below(snapshotter, *id, content).await
                }
                _ => continue,
            };
            match mended {
                Ok(outcome) => {
                    finding.outcome = outcome;
                    finding.mended = true;
                }
                Err(error) => finding.outcome = format!("it could not be repaired: {}", error.chain()),
            }
        }
        if namespaces.is_empty() {
            return Ok(());
        }
        rebuild::describe_themselves(self.store).await?;
        for namespace in namespaces {
            self.hold_everything(&namespace).await?;
        }
        Ok(())
    }

    async fn mend_row(&mut self, row: &DamagedRow) -> Result<String> {
        let folder = self.store.metadata.database_path().parent().map(std::path::Path::to_owned);
        let root = folder.unwrap_or_else(|| "/".into());
        let line = format!("{{\"table\":\"{}\",\"row\":{}}}", row.table.name(), row.content);
        let place = self.aside.write_row(&root, &line)?;
        let metadata = &self.store.metadata;
        metadata.forget_damaged(row).await?;
        let again = match (row.table, row.key.as_slice()) {
            (Table::Namespaces, [name]) => {
                name.parse().ok().map(|name| Stored::Namespace(NamespaceInfo { name, labels: Labels::new() }))
            }
            // It kept what its resources say; without labels it does not end by itself.
            (Table::Leases, [namespace, id]) => Some(Stored::Lease(In {
                namespace: namespace.clone(),
                record: Lease {
                    id: id.clone(),
                    labels: Labels::new(),
                    created_at: std::time::SystemTime::now(),
                },
            })),
            (Table::Blobs, [namespace, digest]) => match digest.parse::<Digest>() {
                Ok(digest) => rebuild::blob_row(self.store, namespace, &digest).await?,
                Err(_) => None,
            },
            _ => None,
        };
        let made = match again {
            Some(stored) => !metadata.restore(vec![stored]).await?.is_empty(),
            None => false,
        };
        let again = if made { " and made again" } else { "" };
        Ok(format!("it was copied to {}, dropped{again}", place.display()))
    }

    /// Nobody knows which snapshot this is: its files and its row go aside. What stands on it was retired before.
    async fn mend_below(&mut self, snapshotter: &str, id: u64, content: &str) -> Result<String> {
        let Some(inspector) = self.store.snapshotters.get(snapshotter).cloned() else {
            return Ok("its snapshotter is not there".to_owned());
        };
        let place = self.aside.write_row(inspector.root(), &format!("{id} {content}"))?;
        let target = self.aside.folder(inspector.root())?.join(format!("tree-{id}"));
        let moving = inspector.clone();
        blocking(move || moving.set_aside(id, &target)).await?;
        retire::forget(&inspector, id).await?;
        Ok(format!("it was copied to {} and dropped, its files were set aside", place.display()))
    }

    async fn hold_everything(&self, namespace: &str) -> Result<()> {
        let mut resources = Vec::new();
        for table in [Table::Blobs, Table::Snapshots] {
            let mut after = None;
            loop {
                let page = self.store.metadata.stored(table, after, PAGE_ROWS).await?;
                resources.extend(page.rows.into_iter().filter_map(|row| match row {
                    Stored::Blob(row) if row.namespace == namespace => {
                        Some(Resource { kind: "content".to_owned(), id: row.digest.to_string() })
                    }
                    Stored::Snapshot(row) if row.namespace == namespace => {
                        Some(Resource { kind: format!("snapshots/{}", row.snapshotter), id: row.key })
                    }
                    _ => None,
                }));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        self.store.metadata.keep_recovered(namespace, resources).await
    }
}
