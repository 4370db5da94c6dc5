//! What layers put into snapshots becomes their manifests: the engine that unpacks tells, the snapshotters keep.

use std::{fmt, path::Path, sync::Arc};

use corten_diff::unpack::{Placed, TreeObserver, TreeSink};
use corten_snapshotter::manifest::{Entry, RecordTrees, Recorder};
use corten_types::Result;

/// The snapshotters that keep manifests.
#[derive(Clone, Default)]
pub(crate) struct Manifests(Vec<Arc<dyn RecordTrees>>);

impl Manifests {
    pub(crate) fn add(&mut self, snapshotter: Arc<dyn RecordTrees>) {
        self.0.push(snapshotter);
    }
}

impl fmt::Debug for Manifests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Manifests of {} snapshotters", self.0.len())
    }
}

impl TreeObserver for Manifests {
    fn observe(&self, folder: &Path) -> Result<Option<Box<dyn TreeSink>>> {
        for snapshotter in &self.0 {
            if let Some(recorder) = snapshotter.record(folder)? {
                return Ok(Some(Box::new(Sink(recorder))));
            }
        }
        Ok(None)
    }
}

struct Sink(Recorder);

impl TreeSink for Sink {
    fn put(&mut self, path: &[u8], placed: Placed<'_>) {
        let entry = match placed {
            Placed::Directory => Entry::Folder,
            Placed::File { size_bytes, crc32c } => Entry::File { size_bytes, checksum: crc32c },
            Placed::HardLink { target } => Entry::HardLink { target },
            Placed::Symlink { target } => Entry::symlink(target),
            Placed::Fifo => Entry::Fifo,
            Placed::CharacterDevice { device } => Entry::CharacterDevice { device },
            Placed::BlockDevice { device } => Entry::BlockDevice { device },
            // What is not recorded makes the counts differ, and the manifest is dropped at the commit.
            _ => return,
        };
        self.0.put(path, entry);
    }

    fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, ops::ControlFlow, path::Path, sync::Arc};

    use corten_diff::unpack::{Placed, TreeObserver};
    use corten_snapshotter::{SnapshotWriter, manifest};
    use corten_snapshotter_native::NativeSnapshotter;
    use corten_types::Labels;

    use super::Manifests;

    #[tokio::test]
    async fn what_a_layer_tells_becomes_the_manifest_of_its_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = NativeSnapshotter::open(folder.path(), Default::default()).unwrap();
        let mut manifests = Manifests::default();
        manifests.add(Arc::new(snapshots.clone()));
        let mounts = snapshots.prepare("active", "", Labels::new()).await.unwrap();
        let tree = Path::new(&mounts[0].source);
        assert!(manifests.observe(folder.path()).unwrap().is_none(), "that is no snapshot");
        let mut sink = manifests.observe(tree).unwrap().unwrap();
        std::fs::create_dir(tree.join("etc")).unwrap();
        sink.put(b"etc", Placed::Directory);
        File::create(tree.join("etc/file")).unwrap().write_all(b"bytes").unwrap();
        let crc32c = manifest::checksum(0, b"bytes");
        sink.put(b"etc/file", Placed::File { size_bytes: 5, crc32c });
        std::fs::hard_link(tree.join("etc/file"), tree.join("again")).unwrap();
        sink.put(b"again", Placed::HardLink { target: b"etc/file" });
        std::os::unix::fs::symlink("etc", tree.join("link")).unwrap();
        sink.put(b"link", Placed::Symlink { target: b"etc" });
        sink.finish().unwrap();
        snapshots.commit("layer", "active", Labels::new(), None).await.unwrap();
        let kept = snapshots.tree("layer").await.unwrap();
        let mut differ = |finding: manifest::Finding| -> ControlFlow<()> { panic!("{finding}") };
        let verified = manifest::verify(&kept.manifest.unwrap().path, &kept.path, &mut differ).unwrap();
        assert_eq!(verified.entries, 4);
    }
}
