//! The graph as one snapshot of the database has it.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::SystemTime};

use corten_database::rusqlite::Connection;
use corten_gc::Graph;
use corten_types::{Labels, Result};

use super::{
    condition::{self, Conditional},
    edges,
};
use crate::{
    Container, Image, Lease, Sandbox,
    node::{self, Kind, Node},
    row::{self, Record},
    tables::{BlobRow, In, IngestRow, ResourceRow, SnapshotRow},
};

/// Copies nodes, edges and roots to memory in one pass.
pub(super) fn read(connection: &Connection, now: SystemTime) -> Result<Graph<Node>> {
    let mut reader = Reader {
        connection,
        graph: Graph::new(now),
        names: HashMap::new(),
        found: Vec::new(),
        conditional: HashMap::new(),
    };
    reader.leases()?;
    reader.images()?;
    reader.containers()?;
    reader.sandboxes()?;
    reader.blobs()?;
    reader.ingests()?;
    reader.snapshots()?;
    reader.resources()?;
    reader.back_references()?;
    Ok(reader.graph)
}

struct Reader<'a> {
    connection: &'a Connection,
    graph: Graph<Node>,
    /// One copy of each namespace's name.
    names: HashMap<String, Arc<str>>,
    found: Vec<Node>,
    /// The references that hold if their target says so, by their target (G15).
    conditional: HashMap<Node, Vec<(Node, Conditional)>>,
}

impl Reader<'_> {
    fn name(&mut self, namespace: &str) -> Arc<str> {
        if let Some(name) = self.names.get(namespace) {
            return Arc::clone(name);
        }
        let name: Arc<str> = namespace.into();
        self.names.insert(namespace.to_owned(), Arc::clone(&name));
        name
    }

    fn each<T: Record>(&mut self, mut visit: impl FnMut(&mut Self, T)) -> Result<()> {
        row::scan(self.connection, &[], None, |record: T| {
            visit(self, record);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The edges from `node` to what was found.
    fn connect(&mut self, node: &Node) {
        for target in self.found.drain(..) {
            self.graph.edge(node.clone(), target);
        }
    }

    /// Keeps the conditional references of `node` until their targets are read.
    fn defer(&mut self, node: &Node, labels: &Labels) {
        for reference in condition::references(&node.namespace, labels) {
            self.conditional.entry(reference.target.clone()).or_default().push((node.clone(), reference));
        }
    }

    fn leases(&mut self) -> Result<()> {
        let mut flat = HashMap::new();
        self.each(|reader, row: In<Lease>| {
            let namespace = reader.name(&row.namespace);
            let labels = &row.record.labels;
            let node = Node::new(Kind::Lease, &namespace, row.record.id.as_str());
            reader.graph.candidate(node.clone());
            reader.graph.leased_root(node.clone(), node::expires_at(labels));
            flat.insert(node, node::is_flat(labels));
        })?;
        let mut rows = Vec::new();
        let text = "SELECT namespace, lease, kind, id FROM lease_resources";
        row::query(self.connection, text, [], |row| {
            rows.push((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?));
            Ok(())
        })?;
        for (namespace, lease, kind, id) in rows {
            let (kind, id): (String, String) = (kind, id);
            let namespace = self.name(&namespace);
            let node = Node::new(Kind::Lease, &namespace, lease);
            let is_flat = flat.get(&node).copied().unwrap_or_default();
            edges::resource(&namespace, is_flat, &kind, &id, &mut self.found);
            self.connect(&node);
        }
        Ok(())
    }

    fn images(&mut self) -> Result<()> {
        self.each(|reader, row: In<Image>| {
            let namespace = reader.name(&row.namespace);
            let Image { name, labels, target, .. } = &row.record;
            let whole = Node::new(Kind::Image, &namespace, name.as_str());
            let flat = whole.clone().flat();
            reader.graph.candidate_in(flat.clone(), whole.clone());
            reader.graph.leased_root(whole.clone(), node::expires_at(labels));
            edges::image(&namespace, target, labels, &mut reader.found);
            reader.connect(&whole);
            reader.defer(&whole, labels);
            edges::flat_image(&namespace, target, &mut reader.found);
            reader.connect(&flat);
        })
    }

    /// Whole rows, although `containers_in_short` has all that is needed: only rows have checksums, and a snapshot must not
    /// go because an index is damaged.
    fn containers(&mut self) -> Result<()> {
        self.each(|reader, row: In<Container>| {
            let namespace = reader.name(&row.namespace);
            let Container { id, snapshotter, snapshot_key, labels, .. } = &row.record;
            let node = Node::new(Kind::Container, &namespace, id.as_str());
            reader.graph.root(node.clone());
            edges::container(&namespace, snapshotter, snapshot_key, labels, &mut reader.found);
            reader.connect(&node);
        })
    }

    fn sandboxes(&mut self) -> Result<()> {
        self.each(|reader, row: In<Sandbox>| {
            let namespace = reader.name(&row.namespace);
            let node = Node::new(Kind::Sandbox, &namespace, row.record.id.as_str());
            reader.graph.root(node.clone());
            node::references(&namespace, &row.record.labels, &mut reader.found);
            reader.connect(&node);
        })
    }

    fn blobs(&mut self) -> Result<()> {
        self.each(|reader, row: BlobRow| {
            let namespace = reader.name(&row.namespace);
            let whole = Node::new(Kind::Content, &namespace, row.digest.as_str());
            reader.graph.candidate_in(whole.clone().flat(), whole.clone());
            if node::is_root(&row.labels) {
                reader.graph.root(whole.clone());
            }
            edges::blob(&namespace, &row.labels, &mut reader.found);
            reader.connect(&whole);
            reader.defer(&whole, &row.labels);
        })
    }

    fn ingests(&mut self) -> Result<()> {
        self.each(|reader, row: IngestRow| {
            let namespace = reader.name(&row.namespace);
            let node = Node::new(Kind::Ingest, &namespace, row.key.as_str());
            reader.graph.candidate(node.clone());
            if row.expires_at.is_some() {
                reader.graph.leased_root(node.clone(), row.expires_at);
            }
            edges::ingest(&namespace, &row, &mut reader.found);
            reader.connect(&node);
        })
    }

    fn snapshots(&mut self) -> Result<()> {
        self.each(|reader, row: SnapshotRow| {
            let namespace = reader.name(&row.namespace);
            let whole = Node::snapshot(&namespace, &row.snapshotter, &row.key);
            let flat = whole.clone().flat();
            reader.graph.candidate_in(flat.clone(), whole.clone());
            if node::is_root(&row.labels) {
                reader.graph.root(whole.clone());
            }
            edges::snapshot(&namespace, &row, &mut reader.found);
            reader.connect(&whole);
            for (from, reference) in reader.conditional.remove(&whole).unwrap_or_default() {
                if reference.holds(&row.labels, reader.graph.now()) {
                    reader.graph.edge(from, whole.clone());
                }
            }
            edges::flat_snapshot(&namespace, &row, &mut reader.found);
            reader.connect(&flat);
        })
    }

    /// What is being made stays until it is finished; then something else must name it (G13, G14).
    fn resources(&mut self) -> Result<()> {
        self.each(|reader, row: In<ResourceRow>| {
            let namespace = reader.name(&row.namespace);
            let ResourceRow { kind, info } = &row.record;
            let node = Node::resource(&namespace, kind, &info.name);
            if info.data.is_none() {
                reader.graph.root(node.clone());
            }
            reader.graph.candidate(node);
        })
    }

    fn back_references(&mut self) -> Result<()> {
        let mut rows = Vec::new();
        let text = "SELECT namespace, parent_kind, parent, kind, id FROM back_references";
        row::query(self.connection, text, [], |row| {
            let text = |at| row.get::<_, String>(at);
            rows.push([text(0)?, text(1)?, text(2)?, text(3)?, text(4)?]);
            Ok(())
        })?;
        for [namespace, parent_kind, parent, kind, id] in rows {
            let namespace = self.name(&namespace);
            let parent = Node::of_words(&namespace, &parent_kind, &parent);
            let node = Node::of_words(&namespace, &kind, &id);
            if let (Some(parent), Some(node)) = (parent, node) {
                self.graph.edge(parent, node);
            }
        }
        Ok(())
    }
}
