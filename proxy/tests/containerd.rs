//! containerd itself as the oracle: the suites of the contracts run through the proxies against a stock daemon. What it does not
//! pass is either a difference that the contract wants, listed here, or a mistake in the suite.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use corten_api::containerd::services::leases::v1::{CreateRequest, leases_client::LeasesClient};
use corten_content_store::{ContentStore, testsuite as content_suite};
use corten_proxy::{Connection, ContentProxy, Scope, SnapshotterProxy};
use corten_snapshotter::{Snapshotter, testsuite as snapshotter_suite};
use corten_types::Result;
use libtest_mimic::Arguments;
use tempfile::TempDir;
use tonic::Request;

/// How long containerd may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

const LEASE: &str = "case";

/// A containerd with everything in a folder of its own. It ends with this value.
struct Containerd {
    child: Child,
    folder: TempDir,
}

impl Containerd {
    fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("the test can make a folder");
        let path = |name: &str| folder.path().join(name);
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.metadata.v1.bolt\"]\ncontent_sharing_policy = \"isolated\"\n",
            path("root"),
            path("state"),
            path("containerd.sock"),
        );
        let file = path("config.toml");
        #[expect(clippy::disallowed_methods, reason = "nothing here must survive")]
        fs::write(&file, configuration).expect("the test can write a file");
        let log = fs::File::create(path("log")).expect("the test can write a file");
        let child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd starts");
        Self { child, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("containerd.sock")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A namespace of its own for each case, and a lease in it: the collector runs whenever other cases delete.
struct Remote {
    socket: PathBuf,
    cases: AtomicUsize,
}

impl Remote {
    async fn next_scope(&self, connection: &Connection, what: &str) -> Scope {
        let number = self.cases.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{what}-{number}");
        let lease = CreateRequest { id: LEASE.to_owned(), ..CreateRequest::default() };
        let mut request = Request::new(lease);
        request.metadata_mut().insert("containerd-namespace", namespace.parse().expect("plain ASCII"));
        LeasesClient::new(connection.channel()).create(request).await.expect("a lease is made");
        let scope = Scope::new(&namespace.parse().expect("a well-formed namespace"));
        scope.under_lease(LEASE).expect("plain ASCII")
    }
}

#[async_trait]
impl content_suite::Subject for Remote {
    async fn open(&self, _root: &Path) -> Result<Box<dyn ContentStore>> {
        let connection = Connection::unix_with_patience(&self.socket, PATIENCE);
        let scope = self.next_scope(&connection, "content").await;
        Ok(Box::new(ContentProxy::new(&connection, scope)))
    }

    fn known_gaps(&self) -> Vec<content_suite::Gap> {
        let gaps = [
            ("an_open_blob_stays_readable_after_its_deletion", "every read asks the server"),
            ("a_size_that_no_disk_holds_is_refused", "containerd looks at the space only when it writes"),
            ("the_algorithm_of_the_expected_digest_is_used", "1.6 hashes with SHA-256 only"),
            ("another_algorithm_may_be_asked_for_at_the_commit", "1.6 hashes with SHA-256 only"),
        ];
        gaps.map(|(case, reason)| content_suite::Gap { case, reason }).to_vec()
    }
}

#[async_trait]
impl snapshotter_suite::Subject for Remote {
    async fn open(&self, _root: &Path) -> Result<Box<dyn Snapshotter>> {
        let connection = Connection::unix_with_patience(&self.socket, PATIENCE);
        let scope = self.next_scope(&connection, "snapshots").await;
        Ok(Box::new(SnapshotterProxy::new(&connection, scope, "native")))
    }

    fn known_gaps(&self) -> Vec<snapshotter_suite::Gap> {
        let gaps = [
            (
                "a_view_is_no_parent_and_cannot_be_committed",
                "the files of a view are looked for before its kind",
            ),
            ("a_parent_given_at_commit_lies_below", "1.6 knows no parent at the commit"),
            ("a_missing_parent_at_commit_is_refused", "1.6 knows no parent at the commit"),
            ("another_parent_at_commit_is_refused", "1.6 knows no parent at the commit"),
            ("usage_leaves_out_the_parents", "the parent's files are part of the copy"),
        ];
        gaps.map(|(case, reason)| snapshotter_suite::Gap { case, reason }).to_vec()
    }
}

/// What the lists of gaps were made for.
const VERSION: &str = "1.6.";

/// containerd, if it is there, of the right version, and may be run.
fn program() -> Option<PathBuf> {
    let program = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("containerd")).find(|path| path.exists())
    });
    let is_root = rustix::process::geteuid().is_root();
    assert!(
        is_root || std::env::var_os("CORTEN_TEST_ROOT").is_none(),
        "CORTEN_TEST_ROOT is set, but this is not root"
    );
    // Not to the standard output: runners read the list of cases there.
    if !is_root {
        eprintln!("skipped: needs root");
        return None;
    }
    let program = program.filter(|program| version(program).trim_start_matches('v').starts_with(VERSION));
    if program.is_none() {
        eprintln!("skipped: needs containerd {VERSION}x");
    }
    program
}

/// The third word of `containerd github.com/containerd/containerd 1.6.20 ...`.
fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output().expect("containerd says its version");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

fn main() {
    let Some(program) = program() else { return };
    let containerd = Containerd::start(&program);
    let remote = || Remote { socket: containerd.socket(), cases: AtomicUsize::new(0) };
    let content =
        content_suite::trials(Arc::new(remote())).into_iter().map(|trial| trial.with_kind("content"));
    let snapshots =
        snapshotter_suite::trials(Arc::new(remote())).into_iter().map(|trial| trial.with_kind("snapshots"));
    let conclusion = libtest_mimic::run(&Arguments::from_args(), content.chain(snapshots).collect());
    drop(containerd);
    conclusion.exit();
}
