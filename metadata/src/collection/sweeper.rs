//! The database inside one batch of the sweep.

use corten_gc::{Edges, Store};
use corten_types::{Digest, Error, Labels, Namespace, Result};

use super::{condition, edges, overrun};
use crate::{
    Container, Image, Lease, Sandbox,
    change::Change,
    content, images, leases,
    node::{self, Kind, Node},
    resources, row, snapshots,
    tables::{BlobRow, In, IngestRow, ResourceRow, SnapshotRow},
};

/// Reads edges and removes rows in a transaction of the writer.
pub(super) struct Sweeper<'a, 'b> {
    change: &'a mut Change<'b>,
}

impl<'a, 'b> Sweeper<'a, 'b> {
    pub(super) fn new(change: &'a mut Change<'b>) -> Self {
        Self { change }
    }

    fn blob(&self, node: &Node) -> Result<Option<BlobRow>> {
        // A reference may name what is no digest at all; then there is no such row.
        if node.id.parse::<Digest>().is_err() {
            return Ok(None);
        }
        row::get(self.change.connection, &[&node.namespace, &node.id])
    }

    fn snapshot(&self, node: &Node) -> Result<Option<SnapshotRow>> {
        let (snapshotter, key) = node.parts();
        row::get(self.change.connection, &[&node.namespace, snapshotter, key])
    }

    fn record<T>(&self, node: &Node) -> Result<Option<T>>
    where
        In<T>: row::Record,
    {
        let found: Option<In<T>> = row::get(self.change.connection, &[&node.namespace, &node.id])?;
        Ok(found.map(|row| row.record))
    }

    fn flat_edges(&self, node: &Node, found: &mut Vec<Node>) -> Result<()> {
        match node.kind {
            Kind::Image => {
                if let Some(image) = self.record::<Image>(node)? {
                    edges::flat_image(&node.namespace, &image.target, found);
                }
            }
            Kind::Snapshot => {
                if let Some(row) = self.snapshot(node)? {
                    edges::flat_snapshot(&node.namespace, &row, found);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn whole_edges(&self, node: &Node, found: &mut Vec<Node>) -> Result<()> {
        let namespace = &node.namespace;
        match node.kind {
            Kind::Content => {
                found.push(node.clone().flat());
                if let Some(row) = self.blob(node)? {
                    edges::blob(namespace, &row.labels, found);
                    self.conditional(node, &row.labels, found)?;
                }
            }
            Kind::Image => {
                found.push(node.clone().flat());
                if let Some(image) = self.record::<Image>(node)? {
                    edges::image(namespace, &image.target, &image.labels, found);
                    self.conditional(node, &image.labels, found)?;
                }
            }
            Kind::Snapshot => {
                found.push(node.clone().flat());
                if let Some(row) = self.snapshot(node)? {
                    edges::snapshot(namespace, &row, found);
                }
            }
            Kind::Container => {
                if let Some(container) = self.record::<Container>(node)? {
                    let Container { snapshotter, snapshot_key, labels, .. } = &container;
                    edges::container(namespace, snapshotter, snapshot_key, labels, found);
                }
            }
            Kind::Sandbox => {
                if let Some(sandbox) = self.record::<Sandbox>(node)? {
                    node::references(namespace, &sandbox.labels, found);
                }
            }
            Kind::Ingest => {
                if let Some(row) = self.ingest(node)? {
                    edges::ingest(namespace, &row, found);
                }
            }
            Kind::Lease => self.lease_edges(node, found)?,
            Kind::Resource => {}
        }
        self.back_references(node, found)
    }

    /// Adds the snapshots that conditions refer to now (G15).
    fn conditional(&self, node: &Node, labels: &Labels, found: &mut Vec<Node>) -> Result<()> {
        for reference in condition::references(&node.namespace, labels) {
            if let Some(row) = self.snapshot(&reference.target)?
                && reference.holds(&row.labels, self.change.now)
            {
                found.push(reference.target);
            }
        }
        Ok(())
    }

    fn ingest(&self, node: &Node) -> Result<Option<IngestRow>> {
        row::get(self.change.connection, &[&node.namespace, &node.id])
    }

    fn lease_edges(&self, node: &Node, found: &mut Vec<Node>) -> Result<()> {
        let Some(lease) = self.record::<Lease>(node)? else { return Ok(()) };
        let flat = node::is_flat(&lease.labels);
        let text = "SELECT kind, id FROM lease_resources WHERE namespace = ?1 AND lease = ?2";
        row::query(self.change.connection, text, [&*node.namespace, &*node.id], |row| {
            let (kind, id): (String, String) = (row.get(0)?, row.get(1)?);
            edges::resource(&node.namespace, flat, &kind, &id, found);
            Ok(())
        })
    }

    fn back_references(&self, node: &Node, found: &mut Vec<Node>) -> Result<()> {
        let text =
            "SELECT kind, id FROM back_references WHERE namespace = ?1 AND parent_kind = ?2 AND parent = ?3";
        let keys = [&*node.namespace, node.kind.word(), &*node.id];
        row::query(self.change.connection, text, keys, |row| {
            let (kind, id): (String, String) = (row.get(0)?, row.get(1)?);
            found.extend(Node::of_words(&node.namespace, &kind, &id));
            Ok(())
        })
    }
}

impl Edges<Node> for Sweeper<'_, '_> {
    type Error = Error;

    fn edges_from(&mut self, node: &Node, found: &mut Vec<Node>) -> Result<()> {
        if node.flat { self.flat_edges(node, found) } else { self.whole_edges(node, found) }
    }
}

impl Store<Node> for Sweeper<'_, '_> {
    fn take_touched(&mut self) -> Result<Vec<Node>> {
        self.change.take_touched().ok_or_else(overrun)
    }

    fn remove(&mut self, node: &Node) -> Result<bool> {
        let namespace: Namespace = node.namespace.parse()?;
        match node.kind {
            Kind::Content => {
                let Some(row) = self.blob(node)? else { return Ok(false) };
                content::remove(self.change, &row)?;
            }
            Kind::Snapshot => {
                let Some(row) = self.snapshot(node)? else { return Ok(false) };
                snapshots::remove(self.change, &namespace, &row)?;
            }
            Kind::Image => {
                let Some(image) = self.record::<Image>(node)? else { return Ok(false) };
                images::remove(self.change, &namespace, &image)?;
            }
            Kind::Ingest => {
                let Some(row) = self.ingest(node)? else { return Ok(false) };
                content::remove_ingest(self.change, &row)?;
            }
            Kind::Resource => {
                let (kind, name) = node.parts();
                let found: Option<In<ResourceRow>> =
                    row::get(self.change.connection, &[&node.namespace, kind, name])?;
                let Some(row) = found else { return Ok(false) };
                resources::remove(self.change, &namespace, &row.record)?;
            }
            Kind::Lease => return leases::remove(self.change, &namespace, &node.id),
            Kind::Container | Kind::Sandbox => return Ok(false),
        }
        Ok(true)
    }
}
