//! What was found: kind, thing, what is wrong, what it affects, what to do.

use std::fmt;

use corten_metadata::DamagedRow;
use corten_types::Digest;
use serde::{Serialize, Serializer};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is lost and nothing needs to be done.
    Note,
    /// Something is whole and refers to something that is not here: pulling it again makes it good.
    Incomplete,
    /// Something is not what it was.
    Damage,
}

impl Severity {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Incomplete => "incomplete",
            Self::Damage => "damage",
        }
    }
}

/// What kind of thing was found. The words ([`Kind::as_str`]) are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The store is in quarantine.
    Quarantine,
    /// A page or an index of a database is damaged.
    DatabaseDamaged,
    /// The checksum of a row is wrong.
    RowDamaged,
    /// There are rows in a namespace that has no row.
    NamespaceMissing,
    /// The bytes of a blob do not have its digest.
    BlobDamaged,
    /// Namespaces have a blob that is not there.
    BlobMissing,
    /// A row says another length than the blob has.
    BlobSize,
    /// The files of a snapshot are not what was unpacked.
    TreeDamaged,
    /// The files of a snapshot are gone.
    TreeMissing,
    /// The manifest of a snapshot's files is damaged or gone.
    ManifestDamaged,
    /// A namespace has a snapshot that the snapshotter does not have.
    SnapshotMissing,
    /// The parent of a snapshot is gone, or another one than the snapshotter says.
    SnapshotParent,
    /// A namespace has an ingest whose bytes are gone.
    IngestMissing,
    /// The target of an image is not there.
    ImageIncomplete,
    /// The config or a layer of a manifest is not there.
    ReferenceMissing,
    /// The snapshot of a container is not there.
    ContainerWithoutSnapshot,
    /// No namespace has this blob.
    BlobUnknown,
    /// The snapshotter has no row for this folder.
    TreeUnknown,
    /// No namespace has this snapshot.
    SnapshotUnknown,
    /// No namespace has this ingest.
    IngestUnknown,
    /// Nothing is known of what a snapshot's files should be.
    ManifestAbsent,
    /// A name that means nothing here.
    StrayFile,
    /// Something that was set aside earlier.
    SetAside,
}

impl Kind {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::DatabaseDamaged => "database-damaged",
            Self::RowDamaged => "row-damaged",
            Self::NamespaceMissing => "namespace-missing",
            Self::BlobDamaged => "blob-damaged",
            Self::BlobMissing => "blob-missing",
            Self::BlobSize => "blob-size",
            Self::TreeDamaged => "tree-damaged",
            Self::TreeMissing => "tree-missing",
            Self::ManifestDamaged => "manifest-damaged",
            Self::SnapshotMissing => "snapshot-missing",
            Self::SnapshotParent => "snapshot-parent",
            Self::IngestMissing => "ingest-missing",
            Self::ImageIncomplete => "image-incomplete",
            Self::ReferenceMissing => "reference-missing",
            Self::ContainerWithoutSnapshot => "container-without-snapshot",
            Self::BlobUnknown => "blob-unknown",
            Self::TreeUnknown => "tree-unknown",
            Self::SnapshotUnknown => "snapshot-unknown",
            Self::IngestUnknown => "ingest-unknown",
            Self::ManifestAbsent => "manifest-absent",
            Self::StrayFile => "stray-file",
            Self::SetAside => "set-aside",
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::Quarantine
            | Self::DatabaseDamaged
            | Self::RowDamaged
            | Self::NamespaceMissing
            | Self::BlobDamaged
            | Self::BlobMissing
            | Self::BlobSize
            | Self::TreeDamaged
            | Self::TreeMissing
            | Self::ManifestDamaged
            | Self::SnapshotMissing
            | Self::SnapshotParent
            | Self::IngestMissing => Severity::Damage,
            Self::ImageIncomplete | Self::ReferenceMissing | Self::ContainerWithoutSnapshot => {
                Severity::Incomplete
            }
            Self::BlobUnknown
            | Self::TreeUnknown
            | Self::SnapshotUnknown
            | Self::IngestUnknown
            | Self::ManifestAbsent
            | Self::StrayFile
            | Self::SetAside => Severity::Note,
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Quarantine => {
                "nothing is removed until this is settled: --repair what is damaged, --rebuild rows, then --accept"
            }
            Self::DatabaseDamaged => {
                "--repair makes indexes anew; if that is not enough, the next start sets the database aside, and --rebuild \
                 takes its rows over"
            }
            Self::RowDamaged => {
                "--repair copies the row aside, drops it and makes it again from what it spoke of"
            }
            Self::NamespaceMissing => "--repair makes its row again, without labels",
            Self::BlobDamaged | Self::BlobMissing => {
                "--repair sets it aside and drops its rows; then pull the images again"
            }
            Self::BlobSize => "--repair corrects the row",
            Self::TreeDamaged | Self::TreeMissing | Self::ManifestDamaged => {
                "--repair sets it and what stands on it aside; then pull the images again"
            }
            Self::SnapshotMissing | Self::SnapshotParent => {
                "--repair drops the row and what stands on it; then pull the images again"
            }
            Self::IngestMissing => "--repair drops the row; the client begins anew",
            Self::ImageIncomplete | Self::ReferenceMissing => "pull the image again, or remove it",
            Self::ContainerWithoutSnapshot => "remove the container",
            Self::BlobUnknown | Self::SnapshotUnknown => {
                "the next start removes it, unless there is quarantine; --rebuild makes a row for it"
            }
            Self::TreeUnknown | Self::IngestUnknown => {
                "the next start removes it, unless there is quarantine"
            }
            Self::ManifestAbsent => {
                "its files cannot be checked; pull the image again to have a manifest made"
            }
            Self::StrayFile => "nothing here made it; look at it and remove it by hand",
            Self::SetAside => "remove it by hand when it is not needed any more",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a finding is about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Thing {
    /// The store as a whole, or one part of it.
    Store(String),
    /// A database file.
    Database(String),
    /// A row that cannot be trusted.
    Row(DamagedRow),
    /// A row of a snapshotter that cannot be trusted.
    SnapshotterRow {
        /// The snapshotter.
        snapshotter: String,
        /// The number.
        id: u64,
        /// Its columns, for the copy that is set aside.
        content: String,
    },
    /// A namespace.
    Namespace(String),
    /// A blob.
    Blob(Digest),
    /// The files of a snapshot, by the snapshotter, its number and its name there.
    Tree {
        /// The snapshotter.
        snapshotter: String,
        /// The number.
        id: u64,
        /// The name in the snapshotter; empty if no row has it.
        name: String,
    },
    /// A snapshot of a namespace.
    Snapshot {
        /// The namespace.
        namespace: String,
        /// The snapshotter.
        snapshotter: String,
        /// The key.
        key: String,
    },
    /// An ingest of a namespace; the namespace is empty if none has it.
    Ingest {
        /// The namespace.
        namespace: String,
        /// The ref.
        key: String,
    },
    /// An image.
    Image {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// A container.
    Container {
        /// The namespace.
        namespace: String,
        /// The id.
        id: String,
    },
    /// A file or folder, absolute.
    File(String),
}

impl fmt::Display for Thing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(what) => write!(formatter, "store {what}"),
            Self::Database(path) => write!(formatter, "database {path}"),
            Self::Row(row) => write!(formatter, "row {}/{}", row.table.name(), row.key.join("/")),
            Self::SnapshotterRow { snapshotter, id, .. } => {
                write!(formatter, "row {id} of snapshotter {snapshotter}")
            }
            Self::Namespace(name) => write!(formatter, "namespace {name}"),
            Self::Blob(digest) => write!(formatter, "blob {digest}"),
            Self::Tree { snapshotter, id, name } if name.is_empty() => {
                write!(formatter, "tree {snapshotter}/{id}")
            }
            Self::Tree { snapshotter, id, name } => write!(formatter, "tree {snapshotter}/{id} ({name})"),
            Self::Snapshot { namespace, snapshotter, key } => {
                write!(formatter, "snapshot {namespace}/{snapshotter}/{key}")
            }
            Self::Ingest { namespace, key } if namespace.is_empty() => write!(formatter, "ingest {key}"),
            Self::Ingest { namespace, key } => write!(formatter, "ingest {namespace}/{key}"),
            Self::Image { namespace, name } => write!(formatter, "image {namespace}/{name}"),
            Self::Container { namespace, id } => write!(formatter, "container {namespace}/{id}"),
            Self::File(path) => write!(formatter, "file {path}"),
        }
    }
}

impl Serialize for Thing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An image, container or snapshot that cannot do without the thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Affected {
    /// `image`, `container`, `snapshot` or `namespace`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name, id or key; empty for a namespace.
    pub name: String,
}

impl fmt::Display for Affected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match name.as_str() {
            "" => write!(formatter, "{kind} {namespace}"),
            name => write!(formatter, "{kind} {namespace}/{name}"),
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub thing: Thing,
    /// What is wrong, as a sentence without an end.
    pub problem: String,
    /// What cannot do without it.
    pub affects: Vec<Affected>,
    /// What to do.
    pub advice: String,
    /// What a repair did about it, or why it did nothing; empty if there was none.
    pub outcome: String,
    /// Whether a repair set it right.
    pub mended: bool,
}

impl Finding {
    pub(crate) fn new(kind: Kind, thing: Thing, problem: impl Into<String>) -> Self {
        Self {
            kind,
            severity: kind.severity(),
            thing,
            problem: problem.into(),
            affects: Vec::new(),
            advice: kind.advice().to_owned(),
            outcome: String::new(),
            mended: false,
        }
    }

    pub(crate) fn affecting(mut self, affects: Vec<Affected>) -> Self {
        self.affects = affects;
        self
    }

    /// Whether it is damage that nobody has mended.
    #[must_use]
    pub fn is_open_damage(&self) -> bool {
        self.severity == Severity::Damage && !self.mended
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}: {}: {}", self.severity.as_str(), self.kind, self.thing, self.problem)?;
        for affected in &self.affects {
            write!(formatter, "\n    affects {affected}")?;
        }
        match self.outcome.as_str() {
            "" => write!(formatter, "\n    {}", self.advice),
            outcome => write!(formatter, "\n    {outcome}"),
        }
    }
}
