//! Setting the files of snapshots aside, with all that stands on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use corten_types::{Error, ErrorKind, Result};

use super::Repair;
use crate::{
    Finding, Thing,
    catalogue::{SnapshotKey, TreeUse},
    store::blocking,
};

/// How often a snapshot is tried whose new child is being given up by its maker.
const TRIES: usize = 50;

/// How long the maker of such a child gets between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// What goes together: snapshots of one snapshotter by name, and rows of namespaces.
#[derive(Debug, Default)]
struct Doomed {
    /// In the order in which they go: what stands on others first.
    below: Vec<TreeUse>,
    names: BTreeSet<String>,
    rows: BTreeSet<SnapshotKey>,
}

impl Repair<'_> {
    /// Retires what the findings name, and writes what became of it into them.
    pub(super) async fn retire(&mut self, findings: &mut [Finding]) -> Result<()> {
        let mut gone: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for finding in findings.iter_mut().filter(|finding| finding.kind.retires() && !finding.mended) {
            let doomed = match &finding.thing {
                Thing::Tree { snapshotter, name, .. } => self.doomed(snapshotter, Some(name), None)?,
                Thing::Snapshot { namespace, snapshotter, key } => {
                    let row = (namespace.clone(), snapshotter.clone(), key.clone());
                    self.doomed(snapshotter, None, Some(row))?
                }
                _ => continue,
            };
            let snapshotter = match &finding.thing {
                Thing::Tree { snapshotter, .. } | Thing::Snapshot { snapshotter, .. } => snapshotter.clone(),
                _ => continue,
            };
            if let Some(user) = self.user_of(&doomed)?.filter(|_| !self.options.even_in_use) {
                finding.outcome = format!(
                    "nothing was done: {user} uses it; remove the container, or repair even what is in use"
                );
                continue;
            }
            let done = gone.entry(snapshotter.clone()).or_default();
            match self.retire_all(&snapshotter, &doomed, done).await {
                Ok(count) => {
                    finding.outcome = outcome(count, doomed.names.len());
                    finding.mended = true;
                }
                Err(error) => finding.outcome = format!("it could not be retired: {}", error.chain()),
            }
        }
        Ok(())
    }

    /// Everything that cannot stay without the named snapshot: closed under "stands on" in the snapshotter and in
    /// namespaces.
    fn doomed(&self, snapshotter: &str, name: Option<&str>, row: Option<SnapshotKey>) -> Result<Doomed> {
        let mut doomed = Doomed::default();
        let mut names: Vec<String> = name.map(str::to_owned).into_iter().collect();
        let mut keys: Vec<SnapshotKey> = row.into_iter().collect();
        loop {
            if let Some(name) = names.pop() {
                if doomed.names.insert(name.clone()) {
                    doomed.below.extend(self.catalogue.trees_called(snapshotter, &name)?);
                    let children = self.catalogue.trees_on(snapshotter, &name)?;
                    names.extend(children.into_iter().map(|row| row.name));
                    let owners = self.catalogue.snapshots_for(snapshotter, &name)?;
                    keys.extend(owners.into_iter().map(|row| (row.namespace, row.snapshotter, row.key)));
                }
            } else if let Some(key) = keys.pop() {
                if doomed.rows.insert(key.clone()) {
                    let place = (key.0.as_str(), key.1.as_str(), key.2.as_str());
                    names.extend(self.catalogue.backend_keys(place)?);
                    let children = self.catalogue.keys_on(place)?;
                    keys.extend(children.into_iter().map(|child| (key.0.clone(), key.1.clone(), child)));
                }
            } else {
                break;
            }
        }
        order(&mut doomed.below);
        Ok(doomed)
    }

    fn user_of(&self, doomed: &Doomed) -> Result<Option<String>> {
        for (namespace, snapshotter, key) in &doomed.rows {
            if let Some(id) = self.catalogue.users_of((namespace, snapshotter, key))?.first() {
                return Ok(Some(format!("container {namespace}/{id}")));
            }
        }
        Ok(None)
    }

    /// How many trees were set aside. What is in `done` is gone already.
    async fn retire_all(
        &mut self,
        snapshotter: &str,
        doomed: &Doomed,
        done: &mut BTreeSet<String>,
    ) -> Result<usize> {
        let mut count = 0;
        for row in &doomed.below {
            if done.insert(row.name.clone()) {
                self.retire_one(snapshotter, row).await?;
                count += 1;
            }
        }
        // Rows for which the snapshotter has nothing.
        for name in &doomed.names {
            if done.insert(name.clone()) {
                self.store.metadata.forget_snapshot(snapshotter, name).await?;
            }
        }
        Ok(count)
    }

    /// The files first, then the rows of namespaces, then that of the snapshotter. A crash between leaves rows without files,
    /// which the next check finds; the other way round the files would be debris.
    async fn retire_one(&mut self, snapshotter: &str, row: &TreeUse) -> Result<()> {
        let Some(inspector) = self.store.snapshotters.get(snapshotter).cloned() else { return Ok(()) };
        let target = self.aside.folder(inspector.root())?.join(format!("tree-{}", row.id));
        let owners = self.catalogue.snapshots_for(snapshotter, &row.name)?;
        let _hold = match owners.first() {
            Some(owner) => {
                Some(self.store.metadata.hold_snapshot(&owner.namespace, snapshotter, &owner.key).await)
            }
            None => None,
        };
        let (id, name) = (row.id, row.name.clone());
        let looking = inspector.clone();
        let is_same =
            blocking(move || Ok(looking.row_of(id)?.is_some_and(|row| row.info.name == name))).await?;
        if !is_same {
            return Ok(());
        }
        let moving = inspector.clone();
        blocking(move || moving.set_aside(id, &target)).await?;
        self.store.metadata.forget_snapshot(snapshotter, &row.name).await?;
        forget(&inspector, id).await
    }
}

/// Somebody may just have begun a snapshot on this one: without its row that is given up soon.
pub(super) async fn forget(inspector: &corten_snapshotter::Inspector, id: u64) -> Result<()> {
    let mut last = None;
    for _ in 0..TRIES {
        let inspector = inspector.clone();
        match blocking(move || inspector.forget(id)).await {
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => last = Some(error),
            result => return result,
        }
        blocking(|| {
            std::thread::sleep(PAUSE);
            Ok(())
        })
        .await?;
    }
    Err(last.unwrap_or_else(|| Error::internal("a snapshot was tried too often")))
}

/// Children before their parents.
fn order(rows: &mut Vec<TreeUse>) {
    let mut left = std::mem::take(rows);
    while !left.is_empty() {
        let parents: BTreeSet<String> = left.iter().map(|row| row.parent.clone()).collect();
        let (free, standing): (Vec<TreeUse>, Vec<TreeUse>) =
            left.into_iter().partition(|row| !parents.contains(&row.name));
        if free.is_empty() {
            // A circle, which only damage makes: any order is as good.
            rows.extend(standing);
            return;
        }
        rows.extend(free);
        left = standing;
    }
}

fn outcome(set_aside: usize, names: usize) -> String {
    match (set_aside, names) {
        (0, _) => "its rows were dropped, or were already: pull the images again".to_owned(),
        (1, _) => "it was set aside and its rows were dropped: pull the images again".to_owned(),
        (count, _) => {
            format!("it and what stands on it, {count} snapshots, were set aside: pull the images again")
        }
    }
}
