//! What the suites look at: proxies of the daemon's stores.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use corten_api::{
    containerd::services::leases::v1::{CreateRequest, leases_client::LeasesClient},
    grpc::from_status,
};
use corten_content_store::{ContentStore, testsuite as content_suite};
use corten_proxy::{Connection, ContentProxy, Scope, SnapshotterProxy};
use corten_snapshotter::{Snapshotter, testsuite as snapshotter_suite};
use corten_types::Result;
use tonic::Request;

/// The lease of a case, in the case's namespace: nothing else refers to what the cases make.
const LEASE: &str = "case";

/// Where the daemon listens, once it does.
#[derive(Clone, Default)]
pub(crate) struct Server {
    /// Where it listens, and its durable folder.
    place: Arc<OnceLock<(PathBuf, PathBuf)>>,
    cases: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn is_at(&self, socket: PathBuf, root: PathBuf) {
        self.place.set((socket, root)).unwrap();
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.place.get().unwrap().1.clone()
    }

    /// A connection, and a namespace that no other case has. It must be called inside a runtime.
    pub(crate) fn connect(&self) -> (Connection, String) {
        let connection = Connection::unix(&self.place.get().unwrap().0);
        (connection, format!("case-{}", self.cases.fetch_add(1, Ordering::Relaxed)))
    }

    /// A connection, and a namespace and a lease that no other case has.
    async fn enter(&self) -> Result<(Connection, Scope)> {
        let (connection, namespace) = self.connect();
        let mut request = Request::new(CreateRequest { id: LEASE.to_owned(), ..CreateRequest::default() });
        request.metadata_mut().insert("containerd-namespace", namespace.parse().unwrap());
        LeasesClient::new(connection.channel()).create(request).await.map_err(from_status)?;
        let scope = Scope::new(&namespace.parse()?).under_lease(LEASE)?;
        Ok((connection, scope))
    }
}

/// The content service.
pub(crate) struct Content {
    server: Server,
}

impl Content {
    pub(crate) fn new(server: &Server) -> Arc<Self> {
        Arc::new(Self { server: server.clone() })
    }
}

#[async_trait]
impl content_suite::Subject for Content {
    async fn open(&self, _root: &Path) -> Result<Box<dyn ContentStore>> {
        let (connection, scope) = self.server.enter().await?;
        Ok(Box::new(ContentProxy::new(&connection, scope)))
    }

    fn known_gaps(&self) -> Vec<content_suite::Gap> {
        vec![content_suite::Gap {
            case: "an_open_blob_stays_readable_after_its_deletion",
            reason: "every read asks the server, which has nothing open in between",
        }]
    }
}

/// The snapshots service, for one snapshotter.
pub(crate) struct Snapshots {
    server: Server,
    snapshotter: &'static str,
}

impl Snapshots {
    pub(crate) fn new(server: &Server, snapshotter: &'static str) -> Arc<Self> {
        Arc::new(Self { server: server.clone(), snapshotter })
    }
}

#[async_trait]
impl snapshotter_suite::Subject for Snapshots {
    async fn open(&self, _root: &Path) -> Result<Box<dyn Snapshotter>> {
        let (connection, scope) = self.server.enter().await?;
        Ok(Box::new(SnapshotterProxy::new(&connection, scope, self.snapshotter)))
    }

    /// The same as of the snapshotter itself: nothing is lost on the way.
    fn known_gaps(&self) -> Vec<snapshotter_suite::Gap> {
        let redirects = "/sys/module/overlay/parameters/redirect_dir";
        let redirects = std::fs::read_to_string(redirects).unwrap_or_default();
        let gaps: &[(&str, &str)] = match self.snapshotter {
            "overlayfs" if redirects.trim() == "Y" => &[],
            "overlayfs" => &[(
                "a_folder_of_a_lower_layer_is_renamed",
                "overlayfs answers EXDEV unless redirect_dir is on; programs copy then",
            )],
            _ => &[
                (
                    "a_parent_given_at_commit_lies_below",
                    "the parent's files are copied when a snapshot is made",
                ),
                ("usage_leaves_out_the_parents", "the parent's files are part of the copy"),
            ],
        };
        gaps.iter().map(|&(case, reason)| snapshotter_suite::Gap { case, reason }).collect()
    }
}
