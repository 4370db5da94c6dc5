//! A snapshotter and differs that only keep records: the services do not look behind them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use async_trait::async_trait;
use corten_content_store::{BlobReader, ContentStore};
use corten_diff::{Applier, ApplyOptions, CompareOptions, Comparer};
use corten_filter::Filters;
use corten_snapshotter::{Kind, SnapshotInfo, SnapshotKeeper, SnapshotReader, SnapshotWriter, Usage};
use corten_types::{Descriptor, Digest, Error, Labels, Mount, Result, UpdateMask};

#[derive(Default)]
pub(crate) struct MemorySnapshotter(Mutex<BTreeMap<String, SnapshotInfo>>);

impl MemorySnapshotter {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, SnapshotInfo>> {
        self.0.lock().unwrap()
    }

    fn make(&self, kind: Kind, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let mut snapshots = self.lock();
        if snapshots.contains_key(key) {
            return Err(Error::already_exists(format!("snapshot {key}")));
        }
        if !parent.is_empty() && !snapshots.contains_key(parent) {
            return Err(Error::not_found(format!("parent {parent}")));
        }
        let now = SystemTime::now();
        let (name, parent) = (key.to_owned(), parent.to_owned());
        snapshots.insert(
            name.clone(),
            SnapshotInfo { kind, name, parent, labels, created_at: now, updated_at: now },
        );
        Ok(mounts_of(key))
    }
}

fn mounts_of(key: &str) -> Vec<Mount> {
    vec![Mount {
        kind: "bind".into(),
        source: format!("/memory/{key}"),
        target: String::new(),
        options: vec!["rbind".into()],
    }]
}

#[async_trait]
impl SnapshotReader for MemorySnapshotter {
    async fn stat(&self, key: &str) -> Result<SnapshotInfo> {
        self.lock().get(key).cloned().ok_or_else(|| Error::not_found(format!("snapshot {key}")))
    }

    async fn list(&self, _: &Filters, after: Option<&str>, limit: usize) -> Result<Vec<SnapshotInfo>> {
        let snapshots = self.lock();
        let later =
            snapshots.values().filter(|snapshot| after.is_none_or(|after| snapshot.name.as_str() > after));
        Ok(later.take(limit).cloned().collect())
    }

    async fn usage(&self, key: &str) -> Result<Usage> {
        self.stat(key).await?;
        Ok(Usage { size_bytes: 4096, inodes: 3 })
    }
}

#[async_trait]
impl SnapshotWriter for MemorySnapshotter {
    async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.make(Kind::Active, key, parent, labels)
    }

    async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        self.make(Kind::View, key, parent, labels)
    }

    async fn commit(&self, name: &str, key: &str, labels: Labels, _: Option<&str>) -> Result<()> {
        let mut snapshots = self.lock();
        let active = snapshots.remove(key).ok_or_else(|| Error::not_found(format!("snapshot {key}")))?;
        let committed = SnapshotInfo { kind: Kind::Committed, name: name.to_owned(), labels, ..active };
        snapshots.insert(name.to_owned(), committed);
        Ok(())
    }
}

#[async_trait]
impl SnapshotKeeper for MemorySnapshotter {
    async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.stat(key).await.map(|_| mounts_of(key))
    }

    async fn update(&self, key: &str, labels: &Labels, _: &UpdateMask) -> Result<SnapshotInfo> {
        let mut snapshots = self.lock();
        let found = snapshots.get_mut(key).ok_or_else(|| Error::not_found(format!("snapshot {key}")))?;
        found.labels = labels.clone();
        Ok(found.clone())
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.lock().remove(key).map(drop).ok_or_else(|| Error::not_found(format!("snapshot {key}")))
    }

    async fn cleanup(&self) -> Result<()> {
        Err(Error::unimplemented("nothing is left to clean up"))
    }
}

/// A differ for one media type, which echoes what it was asked.
pub(crate) struct EchoDiffer(pub(crate) &'static str);

#[async_trait]
impl Applier for EchoDiffer {
    async fn apply(
        &self,
        _: &dyn BlobReader,
        layer: &Descriptor,
        mounts: &[Mount],
        options: ApplyOptions,
    ) -> Result<Descriptor> {
        if layer.media_type != self.0 {
            return Err(Error::unimplemented(format!("layers of type {}", layer.media_type)));
        }
        let mut applied = layer.clone();
        applied.media_type = format!("{} {} {}", self.0, mounts.len(), options.sync_fs);
        Ok(applied)
    }
}

#[async_trait]
impl Comparer for EchoDiffer {
    async fn compare(
        &self,
        _: &dyn ContentStore,
        lower: &[Mount],
        upper: &[Mount],
        options: CompareOptions,
    ) -> Result<Descriptor> {
        if options.media_type != self.0 {
            return Err(Error::unimplemented(format!("layers of type {}", options.media_type)));
        }
        let digest: Digest = format!("sha256:{}", "0".repeat(64)).parse()?;
        Ok(Descriptor::new(format!("{} {}", options.key, lower.len() * 10 + upper.len()), digest, 1))
    }
}
