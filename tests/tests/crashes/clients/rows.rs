//! A client that makes, changes and deletes what has rows and no bytes: containers, leases and namespaces.

use std::collections::BTreeMap;

use async_trait::async_trait;
use corten_api::{
    containerd::services::{
        containers::v1::{
            Container, CreateContainerRequest, DeleteContainerRequest, ListContainersRequest,
            UpdateContainerRequest, container::Runtime, containers_client::ContainersClient,
        },
        leases::v1::{
            AddResourceRequest, CreateRequest, DeleteResourceRequest, ListRequest, ListResourcesRequest,
            Resource, leases_client::LeasesClient,
        },
        namespaces::v1::{
            CreateNamespaceRequest, DeleteNamespaceRequest, ListNamespacesRequest, Namespace,
            UpdateNamespaceRequest, namespaces_client::NamespacesClient,
        },
    },
    grpc::from_status,
};
use corten_types::Result;
use prost_types::{Any, FieldMask};
use rand::{Rng, RngCore, rngs::StdRng, seq::IndexedRandom};

use super::{Client, Depth};
use crate::{
    ledger::{Clock, Ledger},
    session::{Session, sha256},
};

/// What each namespace of this client begins with: all of them can be seen by everybody.
const NAMESPACE: &str = "rows-";

pub(crate) struct Rows {
    random: StdRng,
    step: u64,
    /// Labels, and the digest of the spec.
    containers: Ledger<(BTreeMap<String, String>, String)>,
    /// What each lease holds.
    leases: Ledger<Vec<String>>,
    /// Labels.
    namespaces: Ledger<BTreeMap<String, String>>,
}

impl Rows {
    pub(crate) fn new(random: StdRng, clock: &Clock) -> Self {
        Self {
            random,
            step: 0,
            containers: Ledger::new(clock),
            leases: Ledger::new(clock),
            namespaces: Ledger::new(clock),
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        [("step".to_owned(), self.step.to_string())].into()
    }

    async fn create_container(&mut self, session: &Session) -> Result<()> {
        let id = format!("container-{}", self.step);
        let mut spec = vec![0; self.random.random_range(1..20_000)];
        self.random.fill_bytes(&mut spec);
        self.containers.attempt(&id, Some((self.labels(), sha256(&spec).to_string())));
        let container = Container {
            id: id.clone(),
            labels: self.labels(),
            runtime: Some(Runtime { name: "io.containerd.runc.v2".to_owned(), options: None }),
            spec: Some(Any { type_url: "example/spec".to_owned(), value: spec }),
            ..Container::default()
        };
        let request = session.request(CreateContainerRequest { container: Some(container) });
        ContainersClient::new(session.channel()).create(request).await.map_err(from_status)?;
        self.containers.acknowledged(&id);
        Ok(())
    }

    async fn update_container(&mut self, session: &Session, id: &str, spec: String) -> Result<()> {
        self.containers.attempt(id, Some((self.labels(), spec)));
        let container = Container { id: id.to_owned(), labels: self.labels(), ..Container::default() };
        let update_mask = Some(FieldMask { paths: vec!["labels".to_owned()] });
        let request = session.request(UpdateContainerRequest { container: Some(container), update_mask });
        ContainersClient::new(session.channel()).update(request).await.map_err(from_status)?;
        self.containers.acknowledged(id);
        Ok(())
    }

    async fn delete_container(&mut self, session: &Session, id: &str) -> Result<()> {
        self.containers.attempt(id, None);
        let request = session.request(DeleteContainerRequest { id: id.to_owned() });
        ContainersClient::new(session.channel()).delete(request).await.map_err(from_status)?;
        self.containers.acknowledged(id);
        Ok(())
    }

    async fn create_lease(&mut self, session: &Session) -> Result<()> {
        let id = format!("lease-{}", self.step);
        self.leases.attempt(&id, Some(Vec::new()));
        let request = session.request(CreateRequest { id: id.clone(), labels: self.labels() });
        LeasesClient::new(session.channel()).create(request).await.map_err(from_status)?;
        self.leases.acknowledged(&id);
        Ok(())
    }

    /// A lease holds one thing more, or one less.
    async fn change_lease(&mut self, session: &Session, id: &str, mut held: Vec<String>) -> Result<()> {
        let key = format!("thing-{:06}", self.step);
        let thing = |key: String| Some(Resource { id: key, r#type: "snapshots/overlayfs".to_owned() });
        let mut client = LeasesClient::new(session.channel());
        if held.len() > 2 {
            let key = held.remove(0);
            self.leases.attempt(id, Some(held));
            let request = DeleteResourceRequest { id: id.to_owned(), resource: thing(key) };
            client.delete_resource(session.request(request)).await.map_err(from_status)?;
        } else {
            held.push(key.clone());
            self.leases.attempt(id, Some(held));
            let request = AddResourceRequest { id: id.to_owned(), resource: thing(key) };
            client.add_resource(session.request(request)).await.map_err(from_status)?;
        }
        self.leases.acknowledged(id);
        Ok(())
    }

    async fn delete_lease(&mut self, session: &Session, id: &str) -> Result<()> {
        self.leases.attempt(id, None);
        session.delete_lease(id, false).await?;
        self.leases.acknowledged(id);
        Ok(())
    }

    async fn create_namespace(&mut self, session: &Session) -> Result<()> {
        let name = format!("{NAMESPACE}{}", self.step);
        self.namespaces.attempt(&name, Some(self.labels()));
        let namespace = Namespace { name: name.clone(), labels: self.labels() };
        let request = session.request(CreateNamespaceRequest { namespace: Some(namespace) });
        NamespacesClient::new(session.channel()).create(request).await.map_err(from_status)?;
        self.namespaces.acknowledged(&name);
        Ok(())
    }

    async fn update_namespace(&mut self, session: &Session, name: &str) -> Result<()> {
        self.namespaces.attempt(name, Some(self.labels()));
        let namespace = Namespace { name: name.to_owned(), labels: self.labels() };
        let request = UpdateNamespaceRequest { namespace: Some(namespace), update_mask: None };
        let request = session.request(request);
        NamespacesClient::new(session.channel()).update(request).await.map_err(from_status)?;
        self.namespaces.acknowledged(name);
        Ok(())
    }

    async fn delete_namespace(&mut self, session: &Session, name: &str) -> Result<()> {
        self.namespaces.attempt(name, None);
        let request = session.request(DeleteNamespaceRequest { name: name.to_owned() });
        NamespacesClient::new(session.channel()).delete(request).await.map_err(from_status)?;
        self.namespaces.acknowledged(name);
        Ok(())
    }

    async fn change_one(&mut self, session: &Session) -> Result<()> {
        let delete = self.random.random_ratio(2, 5);
        match self.random.random_range(0..3) {
            0 => match self.containers.all().choose(&mut self.random).cloned() {
                Some((id, _)) if delete => self.delete_container(session, &id).await,
                Some((id, (_, spec))) => self.update_container(session, &id, spec).await,
                None => Ok(()),
            },
            1 => match self.leases.all().choose(&mut self.random).cloned() {
                Some((id, _)) if delete => self.delete_lease(session, &id).await,
                Some((id, held)) => self.change_lease(session, &id, held).await,
                None => Ok(()),
            },
            _ => match self.namespaces.all().choose(&mut self.random).cloned() {
                Some((name, _)) if delete => self.delete_namespace(session, &name).await,
                Some((name, _)) => self.update_namespace(session, &name).await,
                None => Ok(()),
            },
        }
    }
}

#[async_trait]
impl Client for Rows {
    fn namespace(&self) -> String {
        "rows".to_owned()
    }

    fn acknowledged(&self) -> u64 {
        self.containers.acknowledged + self.leases.acknowledged + self.namespaces.acknowledged
    }

    async fn step(&mut self, session: &Session) -> Result<()> {
        self.step += 1;
        match self.random.random_range(0..9) {
            0 | 1 => self.create_container(session).await,
            2 => self.create_lease(session).await,
            3 => self.create_namespace(session).await,
            _ => self.change_one(session).await,
        }
    }

    async fn check(&mut self, session: &Session, _depth: Depth) {
        let mut client = ContainersClient::new(session.channel());
        let listed = client.list(session.request(ListContainersRequest::default())).await.unwrap();
        let seen = |one: Container| (one.id, (one.labels, sha256(&one.spec.unwrap().value).to_string()));
        self.containers.settle("container", listed.into_inner().containers.into_iter().map(seen).collect());

        let mut client = LeasesClient::new(session.channel());
        let mut leases = BTreeMap::new();
        let listed = client.list(session.request(ListRequest::default())).await.unwrap();
        for lease in listed.into_inner().leases {
            let request = session.request(ListResourcesRequest { id: lease.id.clone() });
            let held = client.list_resources(request).await.unwrap().into_inner().resources;
            let mut held: Vec<_> = held.into_iter().map(|resource| resource.id).collect();
            held.sort();
            leases.insert(lease.id, held);
        }
        self.leases.settle("lease", leases);

        let mut client = NamespacesClient::new(session.channel());
        let listed = client.list(session.request(ListNamespacesRequest::default())).await.unwrap();
        let ours = listed.into_inner().namespaces.into_iter().filter(|one| one.name.starts_with(NAMESPACE));
        self.namespaces.settle("namespace", ours.map(|one| (one.name, one.labels)).collect());
    }

    async fn clear(&mut self, session: &Session) {
        for (id, _) in self.containers.all() {
            self.delete_container(session, &id).await.unwrap();
        }
        for (id, _) in self.leases.all() {
            self.delete_lease(session, &id).await.unwrap();
        }
        for (name, _) in self.namespaces.all() {
            self.delete_namespace(session, &name).await.unwrap();
        }
    }

    fn at(&self, position: u64) -> Box<dyn Client> {
        Box::new(Self {
            random: self.random.clone(),
            step: self.step,
            containers: self.containers.at(position),
            leases: self.leases.at(position),
            namespaces: self.namespaces.at(position),
        })
    }

    fn acknowledged_at(&self) -> Vec<u64> {
        let namespaces = self.namespaces.acknowledged_at();
        [self.containers.acknowledged_at(), self.leases.acknowledged_at(), namespaces].concat()
    }
}
