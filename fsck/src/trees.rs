//! The files of snapshots against their manifests.

use std::{ops::ControlFlow, path::PathBuf, sync::Arc};

use corten_snapshotter::{
    Folders, Inspector,
    manifest::{Reader, verify},
};
use corten_types::{ErrorKind, Result};

use crate::{
    Finding, Kind, Scope, Thing, affected,
    catalogue::{Catalogue, TreeUse},
    check::Run,
    pool::{self, Cancel},
    store::blocking,
};

/// How many differences of one tree are told.
const SHOWN_DIFFERENCES: usize = 5;

/// A tree to look at.
struct Wanted {
    id: u64,
    name: String,
    manifest: PathBuf,
    checksum: u32,
    files: PathBuf,
}

enum State {
    Whole { read_bytes: u64 },
    Wrong { kind: Kind, problem: String },
    Cancelled,
}

fn compare(wanted: &Wanted, cancel: &Cancel) -> State {
    let wrong = |kind, problem| State::Wrong { kind, problem };
    match Reader::open(&wanted.manifest) {
        Ok(reader) if reader.seal().checksum == wanted.checksum => {}
        Ok(_) => return wrong(Kind::ManifestDamaged, "it is another manifest than the row names".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return wrong(Kind::ManifestDamaged, "its manifest is not there".to_owned());
        }
        Err(error) => return wrong(Kind::ManifestDamaged, error.chain()),
    }
    let mut shown: Vec<String> = Vec::new();
    let mut count = 0_u64;
    let result = verify(&wanted.manifest, &wanted.files, &mut |finding| {
        count += 1;
        if shown.len() < SHOWN_DIFFERENCES {
            shown.push(finding.to_string());
        }
        if cancel.is_told() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match result {
        _ if cancel.is_told() => State::Cancelled,
        Ok(verified) if count == 0 => State::Whole { read_bytes: verified.read_bytes },
        Ok(_) => {
            let rest = count.saturating_sub(shown.len() as u64);
            let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
            wrong(Kind::TreeDamaged, format!("{}{more}", shown.join("; ")))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            wrong(Kind::TreeMissing, "its files are not there".to_owned())
        }
        Err(error) => wrong(Kind::TreeDamaged, error.chain()),
    }
}

/// The trees of one snapshotter that have a manifest.
struct Recorded {
    snapshotter: String,
    inspector: Inspector,
    catalogue: Arc<Catalogue>,
    scope: Scope,
    after: i64,
    page: std::vec::IntoIter<TreeUse>,
}

impl Iterator for Recorded {
    type Item = Result<Wanted>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(row) = self.page.next() else {
                let params: &[&dyn rusqlite::ToSql] = &[&self.snapshotter];
                match self.catalogue.next_page(&mut self.after, HAS_MANIFEST, params) {
                    Err(error) => return Some(Err(error)),
                    Ok(page) if page.is_empty() => return None,
                    Ok(page) => self.page = page.into_iter(),
                }
                continue;
            };
            let (files, manifest) = (self.inspector.files(row.id), self.inspector.manifest(row.id));
            if covers_name(&self.scope, &row.name) && files.is_dir() {
                return Some(Ok(Wanted {
                    id: row.id,
                    name: row.name,
                    manifest,
                    checksum: row.manifest?,
                    files,
                }));
            }
        }
    }
}

/// In SQL, that a snapshot of the snapshotter `?2` has files of its own.
const HAS_FILES: &str = "this.snapshotter = ?2 AND this.kind <> 'view'";

/// In SQL, that it also has a manifest.
const HAS_MANIFEST: &str = "this.snapshotter = ?2 AND this.kind <> 'view' AND this.manifest IS NOT NULL";

/// Names in a snapshotter begin with the namespace.
fn covers_name(scope: &Scope, name: &str) -> bool {
    scope.namespace.is_none() || name.split_once('/').is_some_and(|(namespace, _)| scope.covers(namespace))
}

impl Run<'_, '_> {
    pub(crate) async fn check_trees(&mut self) -> Result<()> {
        let store = self.store;
        let mut total = 0;
        for (snapshotter, inspector) in &store.snapshotters {
            self.look_at_folders(snapshotter, inspector).await?;
            total += self.look_at_rows(snapshotter, inspector).await?;
        }
        for (snapshotter, inspector) in &store.snapshotters {
            let recorded = Recorded {
                snapshotter: snapshotter.clone(),
                inspector: inspector.clone(),
                catalogue: Arc::clone(&self.catalogue),
                scope: self.scope.clone(),
                after: 0,
                page: Vec::new().into_iter(),
            };
            let compare =
                |wanted: &Wanted, cancel: &Cancel| (wanted.id, wanted.name.clone(), compare(wanted, cancel));
            let mut results = pool::run(recorded, compare)?;
            while let Some((id, name, state)) = results.next().await? {
                match state {
                    State::Whole { read_bytes } => self.report.bytes += read_bytes,
                    State::Wrong { kind, problem } => {
                        self.wrong(snapshotter, id, &name, kind, &problem).await?;
                    }
                    State::Cancelled => {}
                }
                self.report.trees += 1;
                self.progress("trees", self.report.trees, total);
            }
        }
        Ok(())
    }

    /// Tells of files that are gone and of manifests that never were, and how many trees can be compared.
    async fn look_at_rows(&mut self, snapshotter: &str, inspector: &Inspector) -> Result<u64> {
        let (mut after, mut count) = (0, 0);
        loop {
            let page: Vec<TreeUse> = self.catalogue.next_page(&mut after, HAS_FILES, &[&snapshotter])?;
            if page.is_empty() {
                return Ok(count);
            }
            for row in page.into_iter().filter(|row| covers_name(self.scope, &row.name)) {
                if !inspector.files(row.id).is_dir() {
                    let problem = "its files are not there";
                    self.wrong(snapshotter, row.id, &row.name, Kind::TreeMissing, problem).await?;
                } else if row.manifest.is_some() {
                    count += 1;
                } else if row.is_committed {
                    let thing =
                        Thing::Tree { snapshotter: snapshotter.to_owned(), id: row.id, name: row.name };
                    self.found(Finding::new(Kind::ManifestAbsent, thing, "it has no manifest"));
                }
            }
        }
    }

    /// A snapshot may have been removed meanwhile: then nothing is wrong.
    async fn wrong(
        &mut self,
        snapshotter: &str,
        id: u64,
        name: &str,
        kind: Kind,
        problem: &str,
    ) -> Result<()> {
        let Some(inspector) = self.store.snapshotters.get(snapshotter).cloned() else { return Ok(()) };
        let now = blocking(move || match inspector.row_of(id) {
            Err(error) if error.kind() == ErrorKind::DataLoss => Ok(None),
            row => row,
        })
        .await?;
        if now.is_none_or(|row| row.info.name != name) {
            return Ok(());
        }
        let affects = affected::by_tree(&self.catalogue, snapshotter, name)?;
        let thing = Thing::Tree { snapshotter: snapshotter.to_owned(), id, name: name.to_owned() };
        self.found(Finding::new(kind, thing, problem).affecting(affects));
        Ok(())
    }

    async fn look_at_folders(&mut self, snapshotter: &str, inspector: &Inspector) -> Result<()> {
        if self.scope.namespace.is_some() {
            return Ok(());
        }
        let looking = inspector.clone();
        let (Folders { ids, unfinished }, tombstones) =
            blocking(move || Ok((looking.folders()?, looking.tombstones()?))).await?;
        let damaged: Vec<u64> = self
            .catalogue
            .damaged_trees
            .iter()
            .filter(|(name, _)| name == snapshotter)
            .map(|(_, row)| row.id)
            .collect();
        for id in ids {
            if tombstones.contains(&id)
                || damaged.contains(&id)
                || self.catalogue.has_tree(snapshotter, id)?
            {
                continue;
            }
            let looking = inspector.clone();
            let (row, is_there) =
                blocking(move || Ok((looking.row_of(id)?, looking.folder(id).exists()))).await?;
            if row.is_none() && is_there {
                let thing = Thing::Tree { snapshotter: snapshotter.to_owned(), id, name: String::new() };
                self.found(Finding::new(Kind::TreeUnknown, thing, "no row speaks of it"));
            }
        }
        for path in unfinished.into_iter().filter(|path| path.exists()) {
            let thing = Thing::File(path.display().to_string());
            self.found(Finding::new(Kind::TreeUnknown, thing, "it was being made or removed"));
        }
        Ok(())
    }
}
