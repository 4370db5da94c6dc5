//! Which record is which row.

use std::time::SystemTime;

use corten_database::rusqlite::types::Value;
use corten_types::{Descriptor, Digest, Labels, Namespace, Result};

use crate::{
    Container, Image, Lease, NamespaceInfo, ResourceInfo, Runtime, Sandbox,
    row::{self, Record, Values},
};

/// A record and the namespace it is in.
#[derive(Clone, Debug)]
pub struct In<T> {
    /// The namespace.
    pub namespace: String,
    /// The record.
    pub record: T,
}

/// Something that has labels and is a row of a namespace.
pub(crate) fn within<T>(namespace: &Namespace, record: T) -> In<T> {
    In { namespace: namespace.as_str().to_owned(), record }
}

impl Record for NamespaceInfo {
    const TABLE: &'static str = "namespaces";
    const COLUMNS: &'static [&'static str] = &["name", "labels"];
    const KEYS: usize = 1;

    fn to_values(&self) -> Vec<Value> {
        vec![row::text(self.name.as_str()), row::labels(&self.labels)]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        Ok(Self { name: values.parsed()?, labels: values.labels()? })
    }
}

impl Record for In<Image> {
    const TABLE: &'static str = "images";
    const COLUMNS: &'static [&'static str] = &[
        "namespace",
        "name",
        "media_type",
        "digest",
        "size",
        "annotations",
        "labels",
        "created_at",
        "updated_at",
    ];
    const KEYS: usize = 2;

    fn to_values(&self) -> Vec<Value> {
        let Image { name, labels, target, created_at, updated_at } = &self.record;
        vec![
            row::text(&self.namespace),
            row::text(name),
            row::text(&target.media_type),
            row::text(target.digest.as_str()),
            row::size(target.size_bytes),
            row::labels(&target.annotations),
            row::labels(labels),
            row::time(*created_at),
            row::time(*updated_at),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        let namespace = values.text()?;
        let name = values.text()?;
        let target = Descriptor {
            media_type: values.text()?,
            digest: values.parsed()?,
            size_bytes: values.size()?,
            annotations: values.labels()?,
        };
        let labels = values.labels()?;
        let record = Image { name, labels, target, created_at: values.time()?, updated_at: values.time()? };
        Ok(Self { namespace, record })
    }
}

impl Record for In<Container> {
    const TABLE: &'static str = "containers";
    const COLUMNS: &'static [&'static str] = &[
        "namespace",
        "id",
        "image",
        "runtime",
        "options_type",
        "options",
        "spec_type",
        "spec",
        "snapshotter",
        "snapshot_key",
        "sandbox",
        "extensions",
        "labels",
        "created_at",
        "updated_at",
    ];
    const KEYS: usize = 2;

    fn to_values(&self) -> Vec<Value> {
        let container = &self.record;
        let [options_type, options] = row::any(container.runtime.options.as_ref());
        let [spec_type, spec] = row::any(container.spec.as_ref());
        vec![
            row::text(&self.namespace),
            row::text(&container.id),
            row::text(&container.image),
            row::text(&container.runtime.name),
            options_type,
            options,
            spec_type,
            spec,
            row::text(&container.snapshotter),
            row::text(&container.snapshot_key),
            row::text(&container.sandbox),
            row::any_map(&container.extensions),
            row::labels(&container.labels),
            row::time(container.created_at),
            row::time(container.updated_at),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        let namespace = values.text()?;
        let record = Container {
            id: values.text()?,
            image: values.text()?,
            runtime: Runtime { name: values.text()?, options: values.any()? },
            spec: values.any()?,
            snapshotter: values.text()?,
            snapshot_key: values.text()?,
            sandbox: values.text()?,
            extensions: values.any_map()?,
            labels: values.labels()?,
            created_at: values.time()?,
            updated_at: values.time()?,
        };
        Ok(Self { namespace, record })
    }
}

impl Record for In<Sandbox> {
    const TABLE: &'static str = "sandboxes";
    const COLUMNS: &'static [&'static str] = &[
        "namespace",
        "id",
        "sandboxer",
        "runtime",
        "options_type",
        "options",
        "spec_type",
        "spec",
        "extensions",
        "labels",
        "created_at",
        "updated_at",
    ];
    const KEYS: usize = 2;

    fn to_values(&self) -> Vec<Value> {
        let sandbox = &self.record;
        let [options_type, options] = row::any(sandbox.runtime.options.as_ref());
        let [spec_type, spec] = row::any(sandbox.spec.as_ref());
        vec![
            row::text(&self.namespace),
            row::text(&sandbox.id),
            row::text(&sandbox.sandboxer),
            row::text(&sandbox.runtime.name),
            options_type,
            options,
            spec_type,
            spec,
            row::any_map(&sandbox.extensions),
            row::labels(&sandbox.labels),
            row::time(sandbox.created_at),
            row::time(sandbox.updated_at),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        let namespace = values.text()?;
        let record = Sandbox {
            id: values.text()?,
            sandboxer: values.text()?,
            runtime: Runtime { name: values.text()?, options: values.any()? },
            spec: values.any()?,
            extensions: values.any_map()?,
            labels: values.labels()?,
            created_at: values.time()?,
            updated_at: values.time()?,
        };
        Ok(Self { namespace, record })
    }
}

impl Record for In<Lease> {
    const TABLE: &'static str = "leases";
    const COLUMNS: &'static [&'static str] = &["namespace", "id", "labels", "created_at"];
    const KEYS: usize = 2;

    fn to_values(&self) -> Vec<Value> {
        vec![
            row::text(&self.namespace),
            row::text(&self.record.id),
            row::labels(&self.record.labels),
            row::time(self.record.created_at),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        let namespace = values.text()?;
        let record = Lease { id: values.text()?, labels: values.labels()?, created_at: values.time()? };
        Ok(Self { namespace, record })
    }
}

/// A thing of a kind that another part looks after.
#[derive(Clone, Debug)]
pub struct ResourceRow {
    /// Which part looks after it.
    pub kind: String,
    /// What is known of it.
    pub info: ResourceInfo,
}

impl Record for In<ResourceRow> {
    const TABLE: &'static str = "resources";
    const COLUMNS: &'static [&'static str] =
        &["namespace", "kind", "name", "number", "labels", "data", "created_at"];
    const KEYS: usize = 3;

    fn to_values(&self) -> Vec<Value> {
        let ResourceRow { kind, info } = &self.record;
        vec![
            row::text(&self.namespace),
            row::text(kind),
            row::text(&info.name),
            row::size(info.number),
            row::labels(&info.labels),
            info.data.as_ref().map_or(Value::Null, |data| Value::Blob(data.to_vec())),
            row::time(info.created_at),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        let namespace = values.text()?;
        let kind = values.text()?;
        let info = ResourceInfo {
            name: values.text()?,
            number: values.size()?,
            labels: values.labels()?,
            data: values.optional_blob()?.map(Into::into),
            created_at: values.time()?,
        };
        Ok(Self { namespace, record: ResourceRow { kind, info } })
    }
}

/// A blob that a namespace has.
#[derive(Clone, Debug)]
pub struct BlobRow {
    /// The namespace that has it.
    pub namespace: String,
    /// The digest.
    pub digest: Digest,
    /// The number of bytes.
    pub size_bytes: u64,
    /// Its labels in the namespace.
    pub labels: Labels,
    /// When the namespace got it.
    pub created_at: SystemTime,
    /// When its labels were last changed.
    pub updated_at: SystemTime,
}

impl Record for BlobRow {
    const TABLE: &'static str = "blobs";
    const COLUMNS: &'static [&'static str] =
        &["namespace", "digest", "size", "labels", "created_at", "updated_at"];
    const KEYS: usize = 2;

    fn to_values(&self) -> Vec<Value> {
        vec![
            row::text(&self.namespace),
            row::text(self.digest.as_str()),
            row::size(self.size_bytes),
            row::labels(&self.labels),
            row::time(self.created_at),
            row::time(self.updated_at),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        Ok(Self {
            namespace: values.text()?,
            digest: values.parsed()?,
            size_bytes: values.size()?,
            labels: values.labels()?,
            created_at: values.time()?,
            updated_at: values.time()?,
        })
    }
}

/// An ingest of a namespace.
#[derive(Clone, Debug)]
pub struct IngestRow {
    /// The namespace that has it.
    pub namespace: String,
    /// The ref that clients use.
    pub key: String,
    /// The ref in the store below; empty if the bytes are those of a blob that is there already (T11).
    pub backend_ref: String,
    /// The digest that it will have, if the writer said so.
    pub expected: Option<Digest>,
    /// The length of the blob that is there already.
    pub size_bytes: u64,
    /// When it was first opened.
    pub started_at: SystemTime,
    /// When it may be collected; `None` if it lives as long as its leases (T19).
    pub expires_at: Option<SystemTime>,
}

impl Record for IngestRow {
    const TABLE: &'static str = "ingests";
    const COLUMNS: &'static [&'static str] =
        &["namespace", "ref", "backend_ref", "expected", "size", "started_at", "expires_at"];
    const KEYS: usize = 2;

    fn to_values(&self) -> Vec<Value> {
        vec![
            row::text(&self.namespace),
            row::text(&self.key),
            row::text(&self.backend_ref),
            row::optional_text(self.expected.as_ref().map(Digest::as_str)),
            row::size(self.size_bytes),
            row::time(self.started_at),
            self.expires_at.map_or(Value::Null, row::time),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        Ok(Self {
            namespace: values.text()?,
            key: values.text()?,
            backend_ref: values.text()?,
            expected: values.optional_text()?.map(|text| text.parse()).transpose()?,
            size_bytes: values.size()?,
            started_at: values.time()?,
            expires_at: values.optional_time()?,
        })
    }
}

/// A snapshot of a namespace.
#[derive(Clone, Debug)]
pub struct SnapshotRow {
    /// The namespace that has it.
    pub namespace: String,
    /// The snapshotter by the name that clients use.
    pub snapshotter: String,
    /// The key or name that clients use.
    pub key: String,
    /// The name in the snapshotter below.
    pub backend_key: String,
    /// The key of its parent in this namespace; empty if there is none.
    pub parent: String,
    /// Its labels.
    pub labels: Labels,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
    /// What the snapshot becomes if the snapshotter has committed it.
    pub pending: Option<PendingCommit>,
}

/// A commit that was announced before the snapshotter was asked: what is needed to carry it through after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCommit {
    /// The name that clients gave.
    pub name: String,
    /// The name in the snapshotter below.
    pub backend_name: String,
    /// The key of its parent.
    pub parent: String,
    /// Its labels.
    pub labels: Labels,
}

impl PendingCommit {
    fn to_json(&self) -> String {
        serde_json::to_string(&(&self.name, &self.backend_name, &self.parent, &self.labels))
            .expect("texts and a map of texts are always JSON")
    }

    fn from_json(text: &str) -> Option<Self> {
        let (name, backend_name, parent, labels) = serde_json::from_str(text).ok()?;
        Some(Self { name, backend_name, parent, labels })
    }
}

impl Record for SnapshotRow {
    const TABLE: &'static str = "snapshots";
    const COLUMNS: &'static [&'static str] = &[
        "namespace",
        "snapshotter",
        "key",
        "backend_key",
        "parent",
        "labels",
        "created_at",
        "updated_at",
        "pending",
    ];
    const KEYS: usize = 3;

    fn to_values(&self) -> Vec<Value> {
        vec![
            row::text(&self.namespace),
            row::text(&self.snapshotter),
            row::text(&self.key),
            row::text(&self.backend_key),
            row::text(&self.parent),
            row::labels(&self.labels),
            row::time(self.created_at),
            row::time(self.updated_at),
            row::optional_text(self.pending.as_ref().map(PendingCommit::to_json).as_deref()),
        ]
    }

    fn from_values(values: &mut Values<'_>) -> Result<Self> {
        Ok(Self {
            namespace: values.text()?,
            snapshotter: values.text()?,
            key: values.text()?,
            backend_key: values.text()?,
            parent: values.text()?,
            labels: values.labels()?,
            created_at: values.time()?,
            updated_at: values.time()?,
            pending: values.optional_text()?.as_deref().and_then(PendingCommit::from_json),
        })
    }
}
