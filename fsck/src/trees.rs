//! The files of snapshots against their manifests.

use std::{ops::ControlFlow, path::PathBuf};

use corten_snapshotter::{
    Folders, Inspector, Kind as SnapshotKind, Row,
    manifest::{Reader, verify},
};
use corten_types::{ErrorKind, Result};

use crate::{
    Affected, Finding, Kind, Thing,
    check::Run,
    pool::{self, Cancel},
    store::blocking,
};

/// How many differences of one tree are told.
const SHOWN_DIFFERENCES: usize = 5;

/// A tree to look at.
struct Wanted {
    snapshotter: String,
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

impl Run<'_, '_> {
    pub(crate) async fn check_trees(&mut self) -> Result<()> {
        let mut wanted = Vec::new();
        for (snapshotter, inspector) in &self.store.snapshotters {
            self.look_at_folders(snapshotter, inspector).await?;
            for row in self.catalogue.trees.get(snapshotter).into_iter().flat_map(|rows| rows.values()) {
                if !self.covers_name(&row.info.name) || row.info.kind == SnapshotKind::View {
                    continue;
                }
                let files = inspector.files(row.id);
                if !files.is_dir() {
                    self.wrong(
                        snapshotter,
                        row.id,
                        &row.info.name,
                        Kind::TreeMissing,
                        "its files are not there",
                    )
                    .await?;
                } else if let Some(checksum) = row.manifest {
                    wanted.push(Wanted {
                        snapshotter: snapshotter.clone(),
                        id: row.id,
                        name: row.info.name.clone(),
                        manifest: inspector.manifest(row.id),
                        checksum,
                        files,
                    });
                } else if row.info.kind == SnapshotKind::Committed {
                    let thing = tree(snapshotter, row);
                    self.found(Finding::new(Kind::ManifestAbsent, thing, "it has no manifest"));
                }
            }
        }
        let total = wanted.len() as u64;
        let compare = |wanted: &Wanted, cancel: &Cancel| {
            (wanted.snapshotter.clone(), wanted.id, wanted.name.clone(), compare(wanted, cancel))
        };
        let mut results = pool::run(wanted, compare)?;
        while let Some((snapshotter, id, name, state)) = results.next().await {
            match state {
                State::Whole { read_bytes } => self.report.bytes += read_bytes,
                State::Wrong { kind, problem } => self.wrong(&snapshotter, id, &name, kind, &problem).await?,
                State::Cancelled => {}
            }
            self.report.trees += 1;
            self.progress("trees", self.report.trees, total);
        }
        Ok(())
    }

    /// Names in a snapshotter begin with the namespace.
    fn covers_name(&self, name: &str) -> bool {
        self.scope.namespace.is_none()
            || name.split_once('/').is_some_and(|(namespace, _)| self.scope.covers(namespace))
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
        let affects = self.affected_by_tree(snapshotter, name);
        let thing = Thing::Tree { snapshotter: snapshotter.to_owned(), id, name: name.to_owned() };
        self.found(Finding::new(kind, thing, problem).affecting(affects));
        Ok(())
    }

    pub(crate) fn affected_by_tree(&mut self, snapshotter: &str, name: &str) -> Vec<Affected> {
        let keys: Vec<(String, String)> = self
            .catalogue
            .snapshots_on(snapshotter, name)
            .map(|row| (row.namespace.clone(), row.key.clone()))
            .collect();
        let referrers = self.referrers();
        let mut affects: Vec<Affected> = keys
            .iter()
            .flat_map(|(namespace, key)| referrers.of_snapshot(namespace, snapshotter, key))
            .collect();
        affects.sort();
        affects.dedup();
        affects
    }

    async fn look_at_folders(&mut self, snapshotter: &str, inspector: &Inspector) -> Result<()> {
        if self.scope.namespace.is_some() {
            return Ok(());
        }
        let looking = inspector.clone();
        let (Folders { ids, unfinished }, tombstones) =
            blocking(move || Ok((looking.folders()?, looking.tombstones()?))).await?;
        let rows = self.catalogue.trees.get(snapshotter);
        let damaged: Vec<u64> = self
            .catalogue
            .damaged_trees
            .iter()
            .filter(|(name, _)| name == snapshotter)
            .map(|(_, row)| row.id)
            .collect();
        for id in ids {
            if rows.is_some_and(|rows| rows.contains_key(&id))
                || tombstones.contains(&id)
                || damaged.contains(&id)
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

fn tree(snapshotter: &str, row: &Row) -> Thing {
    Thing::Tree { snapshotter: snapshotter.to_owned(), id: row.id, name: row.info.name.clone() }
}
