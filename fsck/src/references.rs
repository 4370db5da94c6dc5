//! What images, manifests and containers refer to.

use corten_types::{Digest, Result};

use crate::{
    Finding, Kind, Store, Thing,
    affected::{self, affected},
    catalogue::{CONTENT_REFERENCE, ContainerUse, ImageUse, Reference},
    check::Run,
};

/// In SQL, that the namespace of a row does not have the blob that the row leads to.
const IS_MISSING: &str =
    "NOT EXISTS (SELECT 1 FROM blob WHERE blob.digest = this.target AND blob.namespace = this.namespace)";

/// The same for the snapshot of a container.
const HAS_NO_SNAPSHOT: &str = "this.snapshotter <> '' AND this.snapshot_key <> '' AND NOT EXISTS (SELECT 1 FROM snapshot \
     WHERE snapshot.key = this.snapshot_key AND snapshot.snapshotter = this.snapshotter \
     AND snapshot.namespace = this.namespace)";

impl Run<'_, '_> {
    pub(crate) async fn check_references(&mut self) -> Result<()> {
        self.check_images().await?;
        self.check_parts().await?;
        self.check_containers().await
    }

    async fn check_images(&mut self) -> Result<()> {
        let mut after = 0;
        loop {
            let page: Vec<ImageUse> = self.catalogue.next_page(&mut after, IS_MISSING, &[])?;
            if page.is_empty() {
                return Ok(());
            }
            for ImageUse { namespace, name, target } in page {
                if self.scope.covers(&namespace) && is_missing(self.store, &namespace, &target).await? {
                    let affects = vec![affected("image", &namespace, &name)];
                    let problem = format!("its target {target} is not there");
                    let thing = Thing::Image { namespace, name };
                    self.found(Finding::new(Kind::ImageIncomplete, thing, problem).affecting(affects));
                }
            }
        }
    }

    async fn check_parts(&mut self) -> Result<()> {
        let mut after = 0;
        let condition = format!("this.snapshotter IS NULL AND {IS_MISSING}");
        loop {
            let page: Vec<Reference> = self.catalogue.next_page(&mut after, &condition, &[])?;
            if page.is_empty() {
                return Ok(());
            }
            for Reference { namespace, digest, label, target } in page {
                let (Ok(digest), true) = (digest.parse::<Digest>(), is_part(&label)) else { continue };
                if !self.scope.covers(&namespace) || !is_missing(self.store, &namespace, &target).await? {
                    continue;
                }
                let affects = affected::by_blob(&self.catalogue, digest.as_str())?;
                let problem = format!("{target}, which it needs, is not there in {namespace}");
                let finding = Finding::new(Kind::ReferenceMissing, Thing::Blob(digest), problem);
                self.found(finding.affecting(affects));
            }
        }
    }

    async fn check_containers(&mut self) -> Result<()> {
        let mut after = 0;
        loop {
            let page: Vec<ContainerUse> = self.catalogue.next_page(&mut after, HAS_NO_SNAPSHOT, &[])?;
            if page.is_empty() {
                return Ok(());
            }
            for ContainerUse { namespace, id, snapshotter, snapshot_key: key } in page {
                let metadata = &self.store.metadata;
                if !self.scope.covers(&namespace)
                    || metadata.snapshot_row(&namespace, &snapshotter, &key).await?.is_some()
                {
                    continue;
                }
                let affects = vec![affected("container", &namespace, &id)];
                let problem = format!("its snapshot {key:?} of {snapshotter} is not there");
                let thing = Thing::Container { namespace, id };
                self.found(Finding::new(Kind::ContainerWithoutSnapshot, thing, problem).affecting(affects));
            }
        }
    }
}

/// Whether it is not there now either. What is no digest refers to nothing.
async fn is_missing(store: &Store, namespace: &str, target: &str) -> Result<bool> {
    let Ok(digest) = target.parse::<Digest>() else { return Ok(false) };
    let rows = store.metadata.blob_rows(&digest).await?;
    Ok(!rows.iter().any(|row| row.namespace == namespace))
}

/// Configs and layers. Manifests of other platforms are named by an index and were never fetched.
fn is_part(label: &str) -> bool {
    let rest = label.strip_prefix(CONTENT_REFERENCE).unwrap_or_default();
    rest.starts_with(".config") || rest.starts_with(".l.")
}
