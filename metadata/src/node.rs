//! What refers to what (§3 of the behaviour table): nodes, and the labels that make edges.

use std::{ops::Bound, sync::Arc, time::SystemTime};

use corten_types::Labels;

use crate::rfc3339;

/// Kinds of nodes (G07).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Content,
    Snapshot,
    Image,
    Container,
    Lease,
    Ingest,
    Sandbox,
    /// A thing that another part looks after.
    Resource,
}

impl Kind {
    /// The word in tables.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Snapshot => "snapshot",
            Self::Image => "image",
            Self::Container => "container",
            Self::Lease => "lease",
            Self::Ingest => "ingest",
            Self::Sandbox => "sandbox",
            Self::Resource => "resource",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::Content, Self::Snapshot, Self::Image, Self::Container, Self::Resource]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// A node of the graph. A `flat` one stands for the thing without what its labels refer to (G17).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) flat: bool,
    pub(crate) namespace: Arc<str>,
    /// A digest, name, id or ref; for snapshots `<snapshotter>/<key>`, for resources `<kind>/<name>`.
    pub(crate) id: Arc<str>,
}

impl Node {
    pub(crate) fn new(kind: Kind, namespace: &Arc<str>, id: impl Into<Arc<str>>) -> Self {
        Self { kind, flat: false, namespace: Arc::clone(namespace), id: id.into() }
    }

    pub(crate) fn snapshot(namespace: &Arc<str>, snapshotter: &str, key: &str) -> Self {
        Self::new(Kind::Snapshot, namespace, format!("{snapshotter}/{key}"))
    }

    pub(crate) fn resource(namespace: &Arc<str>, kind: &str, name: &str) -> Self {
        Self::new(Kind::Resource, namespace, format!("{kind}/{name}"))
    }

    pub(crate) fn flat(mut self) -> Self {
        self.flat = true;
        self
    }

    /// The snapshotter and the key of a snapshot, or the kind and the name of a resource.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.id.split_once('/').unwrap_or((&self.id, ""))
    }

    /// The node of a lease's resource; `None` for a kind that nobody can add.
    pub(crate) fn of_resource(namespace: &Arc<str>, kind: &str, id: &str) -> Option<Self> {
        match kind.split_once('/') {
            None if kind == "content" => Some(Self::new(Kind::Content, namespace, id)),
            None if kind == "images" => Some(Self::new(Kind::Image, namespace, id)),
            None if kind == "ingests" => Some(Self::new(Kind::Ingest, namespace, id)),
            Some(("snapshots", snapshotter)) => Some(Self::snapshot(namespace, snapshotter, id)),
            Some(("resources", kind)) => Some(Self::resource(namespace, kind, id)),
            _ => None,
        }
    }

    /// The node that two columns of `back_references` name.
    pub(crate) fn of_words(namespace: &Arc<str>, word: &str, id: &str) -> Option<Self> {
        Kind::of_word(word).map(|kind| Self::new(kind, namespace, id))
    }
}

/// The kinds of things that others look after and labels can name (G13). Streams will be another.
const COLLECTED_KINDS: [&str; 1] = ["mount"];

const GC_LABELS: &str = "containerd.io/gc.";
const REFERENCE: &str = "containerd.io/gc.ref.";
const BACK_REFERENCE: &str = "containerd.io/gc.bref.";
const ROOT: &str = "containerd.io/gc.root";
const FLAT: &str = "containerd.io/gc.flat";
pub(crate) const EXPIRE: &str = "containerd.io/gc.expire";

/// Whether the labels make the thing a root (G09): the value does not matter.
pub(crate) fn is_root(labels: &Labels) -> bool {
    labels.contains_key(ROOT)
}

/// Whether the lease keeps only what it names (G17).
pub(crate) fn is_flat(labels: &Labels) -> bool {
    labels.contains_key(FLAT)
}

/// When the thing's time is over (G16). A malformed time counts as none.
pub(crate) fn expires_at(labels: &Labels) -> Option<SystemTime> {
    let text = labels.get(EXPIRE)?;
    let parsed = rfc3339::parse(text);
    if parsed.is_none() {
        tracing::warn!(label = EXPIRE, value = text, "a time that cannot be read counts as none");
    }
    parsed
}

/// What the labels refer to (G10-G13).
pub(crate) fn references(namespace: &Arc<str>, labels: &Labels, found: &mut Vec<Node>) {
    for (key, value) in gc_labels(labels) {
        if let Some(rest) = key.strip_prefix(REFERENCE) {
            let collected = COLLECTED_KINDS.into_iter().find(|kind| strip_word(rest, kind).is_some());
            found.extend(match collected {
                Some(kind) => Some(Node::resource(namespace, kind, value)),
                None => referent(namespace, rest, value),
            });
        }
    }
}

/// What the labels name as something that keeps the thing that has them (G14).
pub(crate) fn back_references(namespace: &Arc<str>, labels: &Labels) -> Vec<Node> {
    let rests = gc_labels(labels).filter_map(|(key, value)| Some((key.strip_prefix(BACK_REFERENCE)?, value)));
    rests
        .filter_map(|(rest, value)| match strip_word(rest, "container") {
            Some(_) => Some(Node::new(Kind::Container, namespace, value)),
            None => referent(namespace, rest, value),
        })
        .collect()
}

/// The labels that collections look at.
pub(crate) fn gc_labels(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels
        .range::<str, _>((Bound::Included(GC_LABELS), Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(GC_LABELS))
        .map(|(key, value)| (key.as_str(), value.as_str()))
}

/// The word must end there or be followed by `.` or `/` (G10).
fn strip_word<'a>(rest: &'a str, word: &str) -> Option<&'a str> {
    rest.strip_prefix(word).filter(|tail| tail.is_empty() || tail.starts_with(['.', '/']))
}

fn referent(namespace: &Arc<str>, rest: &str, value: &str) -> Option<Node> {
    if strip_word(rest, "content").is_some() {
        return Some(Node::new(Kind::Content, namespace, value));
    }
    if strip_word(rest, "image").is_some() {
        return Some(Node::new(Kind::Image, namespace, value));
    }
    let snapshotter = rest.strip_prefix("snapshot.")?;
    let snapshotter = snapshotter.split_once('/').map_or(snapshotter, |(name, _)| name);
    Some(Node::snapshot(namespace, snapshotter, value))
}

#[cfg(test)]
mod tests;
