//! What each row keeps, flat and whole (G08-G20).

use std::sync::Arc;

use corten_types::{Descriptor, Labels};

use crate::{
    node::{self, Kind, Node},
    tables::{IngestRow, SnapshotRow},
};

pub(super) fn blob(namespace: &Arc<str>, labels: &Labels, found: &mut Vec<Node>) {
    node::references(namespace, labels, found);
}

/// An image keeps what it names (and what that refers to), and what its labels refer to.
pub(super) fn image(namespace: &Arc<str>, target: &Descriptor, labels: &Labels, found: &mut Vec<Node>) {
    found.push(Node::new(Kind::Content, namespace, target.digest.as_str()));
    node::references(namespace, labels, found);
}

/// A flat lease keeps of an image what it names, without what that refers to (G17).
pub(super) fn flat_image(namespace: &Arc<str>, target: &Descriptor, found: &mut Vec<Node>) {
    found.push(Node::new(Kind::Content, namespace, target.digest.as_str()).flat());
}

/// G20. The parent of an announced commit counts too.
pub(super) fn snapshot(namespace: &Arc<str>, row: &SnapshotRow, found: &mut Vec<Node>) {
    found.extend(parents(namespace, row));
    node::references(namespace, &row.labels, found);
    if let Some(pending) = &row.pending {
        node::references(namespace, &pending.labels, found);
    }
}

/// Parents are kept also by a flat lease (G17).
pub(super) fn flat_snapshot(namespace: &Arc<str>, row: &SnapshotRow, found: &mut Vec<Node>) {
    found.extend(parents(namespace, row).map(Node::flat));
}

fn parents(namespace: &Arc<str>, row: &SnapshotRow) -> impl Iterator<Item = Node> {
    let pending = row.pending.as_ref().map_or("", |pending| pending.parent.as_str());
    let named = [row.parent.as_str(), pending].into_iter().filter(|name| !name.is_empty());
    named.map(|name| Node::snapshot(namespace, &row.snapshotter, name))
}

/// G19.
pub(super) fn container(
    namespace: &Arc<str>,
    snapshotter: &str,
    key: &str,
    labels: &Labels,
    found: &mut Vec<Node>,
) {
    if !snapshotter.is_empty() && !key.is_empty() {
        found.push(Node::snapshot(namespace, snapshotter, key));
    }
    node::references(namespace, labels, found);
}

/// One resource of a lease, flat or whole (G17).
pub(super) fn resource(namespace: &Arc<str>, flat: bool, kind: &str, id: &str, found: &mut Vec<Node>) {
    if let Some(node) = Node::of_resource(namespace, kind, id) {
        let can_be_flat = !matches!(node.kind, Kind::Ingest | Kind::Resource);
        found.push(if flat && can_be_flat { node.flat() } else { node });
    }
}

/// G18: an ingest keeps the blob it expects.
pub(super) fn ingest(namespace: &Arc<str>, row: &IngestRow, found: &mut Vec<Node>) {
    if let Some(expected) = &row.expected {
        found.push(Node::new(Kind::Content, namespace, expected.as_str()));
    }
}
