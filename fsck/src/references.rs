//! What images, manifests and containers refer to.

use corten_types::{Digest, Result};

use crate::{
    Finding, Kind, Store, Thing,
    affected::affected,
    catalogue::{CONTENT_REFERENCE, Catalogue, Owner},
    check::Run,
};

impl Run<'_, '_> {
    pub(crate) async fn check_references(&mut self) -> Result<()> {
        let catalogue = self.catalogue;
        for (namespace, name, target) in &catalogue.images {
            if self.scope.covers(namespace) && is_missing(self.store, catalogue, namespace, target).await? {
                let thing = Thing::Image { namespace: namespace.clone(), name: name.clone() };
                let affects = vec![affected("image", namespace, name)];
                let problem = format!("its target {target} is not there");
                self.found(Finding::new(Kind::ImageIncomplete, thing, problem).affecting(affects));
            }
        }
        for (digest, owners) in &catalogue.blobs {
            for owner in owners.iter().filter(|owner| self.scope.covers(&owner.namespace)) {
                for (_, target) in owner.references.iter().filter(|(label, _)| is_part(label)) {
                    let Ok(target) = target.parse::<Digest>() else { continue };
                    if !is_missing(self.store, catalogue, &owner.namespace, &target).await? {
                        continue;
                    }
                    let affects = self.referrers().of_blob(digest.as_str());
                    let problem = format!("{target}, which it needs, is not there in {}", owner.namespace);
                    let thing = Thing::Blob(digest.clone());
                    self.found(Finding::new(Kind::ReferenceMissing, thing, problem).affecting(affects));
                }
            }
        }
        for container in &catalogue.containers {
            let (snapshotter, key) = (&container.snapshotter, &container.snapshot_key);
            let namespace = &container.namespace;
            if snapshotter.is_empty() || key.is_empty() || !self.scope.covers(namespace) {
                continue;
            }
            let known = (namespace.clone(), snapshotter.clone(), key.clone());
            if !catalogue.snapshots.contains_key(&known)
                && self.store.metadata.snapshot_row(namespace, snapshotter, key).await?.is_none()
            {
                let thing = Thing::Container { namespace: namespace.clone(), id: container.id.clone() };
                let problem = format!("its snapshot {key:?} of {snapshotter} is not there");
                let affects = vec![affected("container", namespace, &container.id)];
                self.found(Finding::new(Kind::ContainerWithoutSnapshot, thing, problem).affecting(affects));
            }
        }
        Ok(())
    }
}

async fn is_missing(store: &Store, catalogue: &Catalogue, namespace: &str, digest: &Digest) -> Result<bool> {
    let has = |owners: &Vec<Owner>| owners.iter().any(|owner| owner.namespace == namespace);
    if catalogue.blobs.get(digest).is_some_and(has) {
        return Ok(false);
    }
    let rows = store.metadata.blob_rows(digest).await?;
    Ok(!rows.iter().any(|row| row.namespace == namespace))
}

/// Configs and layers. Manifests of other platforms are named by an index and were never fetched.
fn is_part(label: &str) -> bool {
    let rest = label.strip_prefix(CONTENT_REFERENCE).unwrap_or_default();
    rest.starts_with(".config") || rest.starts_with(".l.")
}
