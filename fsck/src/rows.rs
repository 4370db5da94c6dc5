//! Databases, damaged rows, namespaces, ingests, and what was set aside before.

use std::{fs, path::Path, sync::Arc};

use corten_content_store::IngestCatalog;
use corten_filter::Filters;
use corten_metadata::{DamagedRow, Health, Stored, Table};
use corten_types::{ErrorKind, Result};

use crate::{
    Affected, Finding, Kind, Store, Thing,
    affected::{self, affected},
    aside,
    catalogue::{IngestUse, PAGE_ROWS},
    check::Run,
    store::blocking,
};

impl Run<'_, '_> {
    pub(crate) async fn check_rows(&mut self) -> Result<()> {
        self.check_quarantine();
        self.check_databases().await?;
        let catalogue = Arc::clone(&self.catalogue);
        for row in &catalogue.damaged {
            let namespace = row.key.first().map(String::as_str).unwrap_or_default();
            if self.scope.covers(namespace) {
                let affects = self.affected_by_row(row)?;
                let finding =
                    Finding::new(Kind::RowDamaged, Thing::Row(row.clone()), "its checksum is wrong");
                self.found(finding.affecting(affects));
            }
        }
        if self.scope.namespace.is_none() {
            for (snapshotter, row) in &catalogue.damaged_trees {
                let thing = Thing::SnapshotterRow {
                    snapshotter: snapshotter.clone(),
                    id: row.id,
                    content: row.content.clone(),
                };
                self.found(Finding::new(Kind::RowDamaged, thing, row.problem.clone()));
            }
            self.list_set_aside();
        }
        for name in catalogue.missing_namespaces()? {
            // It may have been made after the first look.
            if self.scope.covers(&name) && !has_namespace(self.store, &name).await? {
                let affects = vec![affected("namespace", &name, "")];
                let finding = Finding::new(
                    Kind::NamespaceMissing,
                    Thing::Namespace(name),
                    "there are rows in it, and it has no row itself",
                );
                self.found(finding.affecting(affects));
            }
        }
        self.check_ingests().await?;
        self.progress("rows", catalogue.rows, catalogue.rows);
        Ok(())
    }

    fn check_quarantine(&mut self) {
        if let Health::Quarantine { reason, .. } = self.store.metadata.health() {
            let thing = Thing::Store("metadata".to_owned());
            self.found(Finding::new(Kind::Quarantine, thing, reason));
        }
        for (name, inspector) in &self.store.snapshotters {
            if let Some(reason) = inspector.quarantine() {
                self.found(Finding::new(
                    Kind::Quarantine,
                    Thing::Store(format!("snapshotter {name}")),
                    reason,
                ));
            }
        }
    }

    async fn check_databases(&mut self) -> Result<()> {
        let mut found = vec![(
            self.store.metadata.database_path().to_owned(),
            self.store.metadata.check_database().await?,
        )];
        for inspector in self.store.snapshotters.values() {
            let looking = inspector.clone();
            let problems = blocking(move || looking.check_database()).await?;
            found.push((inspector.root().join("metastore.db"), problems));
        }
        for (path, problems) in found.into_iter().filter(|(_, problems)| !problems.is_empty()) {
            let thing = Thing::Database(path.display().to_string());
            self.found(Finding::new(Kind::DatabaseDamaged, thing, problems.join("; ")));
        }
        Ok(())
    }

    fn affected_by_row(&self, row: &DamagedRow) -> Result<Vec<Affected>> {
        let [namespace, rest @ ..] = row.key.as_slice() else { return Ok(Vec::new()) };
        Ok(match (row.table, rest) {
            (Table::Blobs, [digest]) => affected::by_blob(&self.catalogue, digest)?,
            (Table::Snapshots, [snapshotter, key]) => {
                affected::by_snapshot(&self.catalogue, (namespace, snapshotter, key))?
            }
            (Table::Images, [name]) => vec![affected("image", namespace, name)],
            (Table::Containers, [id]) => vec![affected("container", namespace, id)],
            _ => vec![affected("namespace", namespace, "")],
        })
    }

    async fn check_ingests(&mut self) -> Result<()> {
        let mut after = 0;
        loop {
            let page: Vec<IngestUse> = self.catalogue.next_page(&mut after, "this.backend_ref <> ''", &[])?;
            if page.is_empty() {
                break;
            }
            for ingest in page {
                if self.scope.covers(&ingest.namespace) {
                    self.look_at_ingest(ingest).await?;
                }
            }
        }
        if self.scope.namespace.is_none() {
            self.look_for_unknown_ingests().await?;
        }
        Ok(())
    }

    /// It may have become a blob, or been aborted, meanwhile; then its row is gone as well. Whoever has it open may be between
    /// the two.
    async fn look_at_ingest(&mut self, ingest: IngestUse) -> Result<()> {
        let IngestUse { namespace, key, backend_ref } = ingest;
        if has_ingest(self.store, &backend_ref).await? {
            return Ok(());
        }
        let Some(hold) = self.store.metadata.hold_ingest(&namespace, &key) else { return Ok(()) };
        let is_missing = !has_ingest(self.store, &backend_ref).await?
            && has_ingest_row(self.store, &namespace, &key, &backend_ref).await?;
        drop(hold);
        if is_missing {
            let thing = Thing::Ingest { namespace, key };
            self.found(Finding::new(Kind::IngestMissing, thing, "its bytes are not there"));
        }
        Ok(())
    }

    async fn look_for_unknown_ingests(&mut self) -> Result<()> {
        let known = self.store.content.list_ingests(&Filters::all()).await?;
        let count_known = known.len();
        for status in known {
            if !self.catalogue.has_ingest(&status.key)? {
                let thing = Thing::Ingest { namespace: String::new(), key: status.key };
                self.found(Finding::new(Kind::IngestUnknown, thing, "no namespace has it"));
            }
        }
        let folder = self.store.content.root().join("ingest");
        let count = fs::read_dir(folder).map_or(0, Iterator::count);
        if count > count_known {
            let thing = Thing::Store("ingests".to_owned());
            let problem = format!("{} folders of ingests cannot be read", count - count_known);
            self.found(Finding::new(Kind::IngestUnknown, thing, problem));
        }
        Ok(())
    }

    fn list_set_aside(&mut self) {
        let metadata = self.store.metadata.database_path().parent().unwrap_or(Path::new("/")).to_owned();
        let roots = self.store.snapshotters.values().map(|inspector| inspector.root().to_owned());
        let mut folders: Vec<_> = roots.collect();
        folders.extend([metadata, self.store.content.root().to_owned()]);
        for folder in folders {
            let names = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
            names.sort();
            for name in names.iter().filter(|name| aside::is_aside(name)) {
                let thing = Thing::File(folder.join(name).display().to_string());
                self.found(Finding::new(Kind::SetAside, thing, "it was set aside"));
            }
        }
    }
}

async fn has_ingest(store: &Store, backend_ref: &str) -> Result<bool> {
    match store.content.ingest_status(backend_ref).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        status => status.map(|_| true),
    }
}

async fn has_ingest_row(store: &Store, namespace: &str, key: &str, backend_ref: &str) -> Result<bool> {
    let row = store.metadata.ingest_row(namespace, key).await?;
    Ok(row.is_some_and(|row| row.backend_ref == backend_ref))
}

async fn has_namespace(store: &Store, name: &str) -> Result<bool> {
    let mut after = None;
    loop {
        let page = store.metadata.stored(Table::Namespaces, after, PAGE_ROWS).await?;
        if page.rows.iter().any(|row| matches!(row, Stored::Namespace(info) if info.name.as_str() == name)) {
            return Ok(true);
        }
        after = page.next;
        if after.is_none() {
            return Ok(false);
        }
    }
}
