//! What cannot do without a blob or a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Affected,
    catalogue::{CONTENT_REFERENCE, Catalogue, SNAPSHOT_REFERENCE},
};

/// Who refers to whom, backwards. It is made only if something is found.
#[derive(Debug)]
pub(crate) struct Referrers<'a> {
    catalogue: &'a Catalogue,
    /// The blobs that refer to a blob, by namespace.
    blobs: BTreeMap<(&'a str, &'a str), Vec<&'a str>>,
    /// The blobs that refer to a snapshot, by namespace, snapshotter and key.
    snapshots: BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a str>>,
    /// The snapshots that stand on one, by namespace, snapshotter and key.
    children: BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a str>>,
}

impl<'a> Referrers<'a> {
    pub(crate) fn new(catalogue: &'a Catalogue) -> Self {
        let mut this =
            Self { catalogue, blobs: BTreeMap::new(), snapshots: BTreeMap::new(), children: BTreeMap::new() };
        for (digest, owners) in &catalogue.blobs {
            for owner in owners {
                for (label, target) in &owner.references {
                    let namespace = owner.namespace.as_str();
                    if label.starts_with(CONTENT_REFERENCE) {
                        this.blobs.entry((namespace, target)).or_default().push(digest.as_str());
                    } else if let Some(rest) = label.strip_prefix(SNAPSHOT_REFERENCE) {
                        let snapshotter = rest.split_once('/').map_or(rest, |(name, _)| name);
                        let key = (namespace, snapshotter, target.as_str());
                        this.snapshots.entry(key).or_default().push(digest.as_str());
                    }
                }
            }
        }
        for row in catalogue.snapshots.values().filter(|row| !row.parent.is_empty()) {
            let parent = (row.namespace.as_str(), row.snapshotter.as_str(), row.parent.as_str());
            this.children.entry(parent).or_default().push(&row.key);
        }
        this
    }

    /// The images that lead to a blob, and their containers.
    pub(crate) fn of_blob(&self, digest: &str) -> Vec<Affected> {
        let mut found = BTreeSet::new();
        let owners = self.catalogue.blobs.iter().find(|(known, _)| known.as_str() == digest);
        let mut namespaces: BTreeSet<&str> =
            owners.iter().flat_map(|(_, owners)| *owners).map(|owner| owner.namespace.as_str()).collect();
        // The row may be what is gone.
        namespaces.extend(self.blobs.keys().filter(|(_, target)| *target == digest).map(|(name, _)| *name));
        for namespace in namespaces {
            self.images_of(namespace, vec![digest], &mut found);
        }
        found.into_iter().collect()
    }

    fn images_of(&self, namespace: &str, begin: Vec<&str>, found: &mut BTreeSet<Affected>) {
        let mut seen: BTreeSet<&str> = begin.iter().copied().collect();
        let mut left = begin;
        while let Some(digest) = left.pop() {
            for referrer in self.blobs.get(&(namespace, digest)).into_iter().flatten() {
                if seen.insert(referrer) {
                    left.push(referrer);
                }
            }
        }
        for (owner, name, target) in &self.catalogue.images {
            if owner == namespace && seen.contains(target.as_str()) {
                found.insert(affected("image", namespace, name));
                let containers = self.catalogue.containers.iter();
                let users = containers.filter(|one| one.namespace == namespace && one.image == *name);
                found.extend(users.map(|one| affected("container", namespace, &one.id)));
            }
        }
    }

    /// The snapshot, what stands on it, and whose they are.
    pub(crate) fn of_snapshot(&self, namespace: &str, snapshotter: &str, key: &str) -> Vec<Affected> {
        let mut found = BTreeSet::new();
        for key in self.standing_on(namespace, snapshotter, key) {
            found.insert(affected("snapshot", namespace, key));
            if let Some(user) = self.catalogue.user_of(namespace, snapshotter, key) {
                found.insert(affected("container", namespace, &user.id));
            }
            let referrers = self.snapshots.get(&(namespace, snapshotter, key)).cloned().unwrap_or_default();
            self.images_of(namespace, referrers, &mut found);
        }
        found.into_iter().collect()
    }

    /// The key itself and those of all snapshots above it.
    pub(crate) fn standing_on<'b>(
        &'b self,
        namespace: &str,
        snapshotter: &str,
        key: &'b str,
    ) -> BTreeSet<&'b str> {
        let mut seen = BTreeSet::from([key]);
        let mut left = vec![key];
        while let Some(key) = left.pop() {
            for child in self.children.get(&(namespace, snapshotter, key)).into_iter().flatten() {
                if seen.insert(child) {
                    left.push(child);
                }
            }
        }
        seen
    }
}

pub(crate) fn affected(kind: &str, namespace: &str, name: &str) -> Affected {
    Affected { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}
