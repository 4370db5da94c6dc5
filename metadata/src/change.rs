//! What an operation of the writer works with: the transaction, and what is to follow its commit.

use std::{sync::Arc, time::SystemTime};

use corten_database::{Refusal, rusqlite::Connection};
use corten_types::{Error, Labels, Namespace, Result};

use crate::{
    MetadataEvent, NamespaceInfo,
    node::{self, Kind, Node},
    row,
    touched::Touched,
};

/// What an operation ends with: a value, or an error with or without its changes.
pub(crate) type Ended<T> = Result<T, Refusal>;

/// One run of an operation inside its transaction. It may be undone and run again.
pub(crate) struct Change<'a> {
    pub(crate) connection: &'a Connection,
    /// The same instant for all that this run writes.
    pub(crate) now: SystemTime,
    touched: &'a Touched,
    effects: Effects,
}

/// What follows the commit.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Vec<(Namespace, MetadataEvent)>,
    /// Whether something may have become garbage.
    pub(crate) deleted: bool,
    /// Whether the change does not count for the scheduler.
    pub(crate) quiet: bool,
}

impl<'a> Change<'a> {
    pub(crate) fn new(connection: &'a Connection, touched: &'a Touched) -> Self {
        Self { connection, now: SystemTime::now(), touched, effects: Effects::default() }
    }

    pub(crate) fn into_effects(self) -> Effects {
        self.effects
    }

    /// Keeps a node, and all that it refers to, from the collection that runs.
    pub(crate) fn touch(&self, node: impl FnOnce() -> Node) {
        self.touched.add(node);
    }

    /// What was touched since the last time, for the sweep; `None` if it became too much.
    pub(crate) fn take_touched(&self) -> Option<Vec<Node>> {
        self.touched.take()
    }

    pub(crate) fn publish(&mut self, namespace: &Namespace, event: MetadataEvent) {
        self.effects.events.push((namespace.clone(), event));
    }

    /// Notes that something may have become garbage (G22).
    pub(crate) fn deleted(&mut self) {
        self.effects.deleted = true;
    }

    /// Keeps the scheduler from counting this change: it is part of a collection.
    pub(crate) fn quiet(&mut self) {
        self.effects.quiet = true;
    }

    /// Makes sure that the namespace exists (G02).
    pub(crate) fn ensure_namespace(&self, namespace: &Namespace) -> Result<()> {
        let info = NamespaceInfo { name: namespace.clone(), labels: Labels::new() };
        row::insert(self.connection, &info).map(drop)
    }

    /// Makes the lease, if there is one, keep a resource.
    ///
    /// # Errors
    /// `NotFound` if the lease does not exist (X06).
    pub(crate) fn lease(
        &self,
        namespace: &Namespace,
        lease: Option<&str>,
        kind: &str,
        id: &str,
    ) -> Result<()> {
        let Some(lease) = lease else { return Ok(()) };
        self.require_lease(namespace, lease)?;
        row::execute(
            self.connection,
            "INSERT OR IGNORE INTO lease_resources (namespace, lease, kind, id) VALUES (?1, ?2, ?3, ?4)",
            [namespace.as_str(), lease, kind, id],
        )?;
        self.touch(|| {
            let namespace: Arc<str> = namespace.as_str().into();
            Node::of_resource(&namespace, kind, id)
                .unwrap_or_else(|| Node::new(Kind::Lease, &namespace, lease))
        });
        Ok(())
    }

    /// # Errors
    /// `NotFound` if the lease does not exist (X06).
    pub(crate) fn require_lease(&self, namespace: &Namespace, lease: &str) -> Result<()> {
        let text = "SELECT 1 FROM leases WHERE namespace = ?1 AND id = ?2";
        if row::exists(self.connection, text, [namespace.as_str(), lease])? {
            return Ok(());
        }
        Err(Error::not_found(format!("lease {lease:?} does not exist in namespace {namespace}")))
    }

    /// Makes the lease, if there is one, let go of a resource.
    pub(crate) fn release(
        &self,
        namespace: &Namespace,
        lease: Option<&str>,
        kind: &str,
        id: &str,
    ) -> Result<()> {
        let Some(lease) = lease else { return Ok(()) };
        row::execute(
            self.connection,
            "DELETE FROM lease_resources WHERE namespace = ?1 AND lease = ?2 AND kind = ?3 AND id = ?4",
            [namespace.as_str(), lease, kind, id],
        )
        .map(drop)
    }

    /// Notes bytes that are to be removed because the last row for them is gone.
    pub(crate) fn bury(&self, kind: &str, id: &str) -> Result<()> {
        row::execute(self.connection, "INSERT INTO tombstones (kind, id) VALUES (?1, ?2)", [kind, id])
            .map(drop)
    }

    /// Keeps the index of back references (G14) in step with the labels of a node.
    pub(crate) fn index_labels(&self, owner: &Node, old: &Labels, new: &Labels) -> Result<()> {
        let before = node::back_references(&owner.namespace, old);
        let after = node::back_references(&owner.namespace, new);
        if before == after {
            return Ok(());
        }
        row::execute(
            self.connection,
            "DELETE FROM back_references WHERE namespace = ?1 AND kind = ?2 AND id = ?3",
            [&*owner.namespace, owner.kind.word(), &*owner.id],
        )?;
        for parent in after {
            row::execute(
                self.connection,
                "INSERT OR IGNORE INTO back_references (namespace, parent_kind, parent, kind, id)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                [&*owner.namespace, parent.kind.word(), &*parent.id, owner.kind.word(), &*owner.id],
            )?;
        }
        Ok(())
    }
}
