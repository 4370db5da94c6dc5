//! What cannot do without a blob or a snapshot.

use std::collections::BTreeSet;

use corten_types::Result;

use crate::{Affected, catalogue::Catalogue};

/// The images that lead to a blob, and their containers.
pub(crate) fn by_blob(catalogue: &Catalogue, digest: &str) -> Result<Vec<Affected>> {
    let mut found = BTreeSet::new();
    for namespace in catalogue.namespaces_of_blob(digest)? {
        add_images(catalogue, &namespace, vec![digest.to_owned()], &mut found)?;
    }
    Ok(found.into_iter().collect())
}

/// Adds the images of a namespace that lead to one of the blobs, and their containers.
fn add_images(
    catalogue: &Catalogue,
    namespace: &str,
    begin: Vec<String>,
    found: &mut BTreeSet<Affected>,
) -> Result<()> {
    let mut seen: BTreeSet<String> = begin.iter().cloned().collect();
    let mut left = begin;
    while let Some(digest) = left.pop() {
        for image in catalogue.images_of(namespace, &digest)? {
            let containers = catalogue.containers_of(namespace, &image)?;
            found.extend(containers.iter().map(|id| affected("container", namespace, id)));
            found.insert(affected("image", namespace, &image));
        }
        let referrers = catalogue.referrers_of_blob(namespace, &digest)?;
        left.extend(referrers.into_iter().filter(|referrer| seen.insert(referrer.clone())));
    }
    Ok(())
}

/// The snapshot, what stands on it, and whose they are.
pub(crate) fn by_snapshot(
    catalogue: &Catalogue,
    (namespace, snapshotter, key): (&str, &str, &str),
) -> Result<Vec<Affected>> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::from([key.to_owned()]);
    let mut left = vec![key.to_owned()];
    while let Some(key) = left.pop() {
        let place = (namespace, snapshotter, key.as_str());
        found.insert(affected("snapshot", namespace, &key));
        found.extend(catalogue.users_of(place)?.iter().map(|id| affected("container", namespace, id)));
        add_images(catalogue, namespace, catalogue.referrers_of_snapshot(place)?, &mut found)?;
        left.extend(catalogue.keys_on(place)?.into_iter().filter(|child| seen.insert(child.clone())));
    }
    Ok(found.into_iter().collect())
}

/// What the snapshots of namespaces for a name in a snapshotter affect.
pub(crate) fn by_tree(catalogue: &Catalogue, snapshotter: &str, name: &str) -> Result<Vec<Affected>> {
    let mut found = BTreeSet::new();
    for row in catalogue.snapshots_for(snapshotter, name)? {
        found.extend(by_snapshot(catalogue, (&row.namespace, snapshotter, &row.key))?);
    }
    Ok(found.into_iter().collect())
}

pub(crate) fn affected(kind: &str, namespace: &str, name: &str) -> Affected {
    Affected { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}
