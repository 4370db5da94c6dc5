//! Clients that are not ours: gRPC's C core, also with the path of the socket as authority, and `ctr`.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use crate::support::{Server, basic, exchange, is_installed};

const PYTHON: &str = "/usr/bin/python3";

/// Calls Version, Health and an event stream, several times over one channel, and prints what it got.
const SCRIPT: &str = r#"
import sys, grpc
raw = dict(request_serializer=lambda m: m, response_deserializer=lambda m: m)
options = [("grpc.default_authority", sys.argv[2])] if len(sys.argv) > 2 else []
channel = grpc.insecure_channel(sys.argv[1], options)
version = channel.unary_unary("/containerd.services.version.v1.Version/Version", **raw)
health = channel.unary_unary("/grpc.health.v1.Health/Check", **raw)
publish = channel.unary_unary("/containerd.services.events.v1.Events/Publish", **raw)
for _ in range(50):
    print(version(b"", timeout=10, metadata=[("containerd-namespace", "n"), ("long", "x" * 3000)]))
print(health(b"", timeout=10))
large = b"\x0a\x02/x" + b"\x12\x85\x80\xc0\x02\x12\x80\x80\xc0\x02" + b"y" * (5 << 20)
print(publish(large, timeout=10, metadata=[("containerd-namespace", "n")]))
try:
    publish(b"", timeout=10)
except grpc.RpcError as error:
    print(error.code(), error.details())
"#;

async fn run_python(arguments: &[&str]) -> Option<std::process::Output> {
    if !is_installed(PYTHON) {
        println!("skipped: needs {PYTHON}");
        return None;
    }
    let mut command = Command::new(PYTHON);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    Some(command.output().await.unwrap())
}

fn has_grpc(output: &std::process::Output) -> bool {
    let missing = String::from_utf8_lossy(&output.stderr).contains("No module named 'grpc'");
    if missing {
        println!("skipped: needs the Python module grpc");
    }
    !missing
}

async fn check(address: fn(&Path) -> String, authority: Option<fn(&Path) -> String>) {
    let server = Server::start(basic(exchange()));
    let (address, authority) =
        (address(&server.socket), authority.map(|authority| authority(&server.socket)));
    let arguments: Vec<_> = ["-c", SCRIPT, &address].into_iter().chain(authority.as_deref()).collect();
    let Some(output) = run_python(&arguments).await else { return };
    if !has_grpc(&output) {
        return;
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{printed}");
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 53, "{printed}");
    assert!(lines[..50].iter().all(|line| line.contains("v2.1.0-corten")), "{printed}");
    assert_eq!(lines[50], r"b'\x08\x01'");
    assert_eq!(lines[51], "b''");
    assert_eq!(lines[52], "StatusCode.FAILED_PRECONDITION namespace is required: failed precondition");
    server.stop().await;
}

fn with_slashes(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_served_at_an_address_with_two_slashes() {
    check(with_slashes, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_served_at_an_address_without_slashes() {
    check(|socket| format!("unix:{}", socket.display()), None).await;
}

/// What versions of the C core before this one send by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn python_is_served_with_the_path_of_the_socket_as_authority() {
    check(with_slashes, Some(|socket| socket.display().to_string())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_served_with_the_encoded_path_as_authority() {
    check(with_slashes, Some(|socket| socket.display().to_string().replace('/', "%2F"))).await;
}

const CTR: &str = "/usr/bin/ctr";

/// Runs Debian's `ctr` and returns what it printed; `None` if it is not here.
async fn ctr(server: &Server, arguments: &[&str]) -> Option<String> {
    if !is_installed(CTR) {
        println!("skipped: needs {CTR}");
        return None;
    }
    let mut command = Command::new(CTR);
    command.arg("-a").arg(&server.socket).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ctr {arguments:?}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_asks_for_version_namespaces_plugins_and_leases() {
    let server = Server::whole().await;
    let Some(version) = ctr(&server, &["version"]).await else { return };
    assert!(version.contains("v2.1.0-corten") && version.contains("0123abcd"), "{version}");
    ctr(&server, &["namespaces", "create", "one", "a=b"]).await;
    let namespaces = ctr(&server, &["namespaces", "ls"]).await.unwrap();
    assert!(namespaces.lines().any(|line| line.split_whitespace().eq(["one", "a=b"])), "{namespaces}");
    let plugins = ctr(&server, &["plugins", "ls"]).await.unwrap();
    let status = |id: &str| {
        let line = plugins.lines().find(|line| line.split_whitespace().nth(1) == Some(id)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!((status("memory").as_str(), status("zfs").as_str()), ("ok", "skip"), "{plugins}");
    let lease = ctr(&server, &["leases", "create", "--id", "l1", "x=y"]).await.unwrap();
    assert_eq!(lease.trim(), "l1");
    assert!(ctr(&server, &["leases", "ls"]).await.unwrap().contains("l1"));
    assert!(ctr(&server, &["tasks", "ls"]).await.is_some());
    assert!(ctr(&server, &["images", "ls"]).await.is_some());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctr_writes_reads_and_labels_content_and_makes_snapshots() {
    let server = Server::whole().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    let bytes: Vec<u8> = (0..3u32 << 18).flat_map(u32::to_le_bytes).collect();
    std::io::Write::write_all(&mut std::fs::File::create(&file).unwrap(), &bytes).unwrap();
    let digest = corten_content_store::Hasher::digest_of(corten_types::Algorithm::Sha256, &bytes).to_string();

    let input = std::fs::File::open(&file).unwrap();
    if !is_installed(CTR) {
        println!("skipped: needs {CTR}");
        return;
    }
    let mut ingest = Command::new(CTR);
    ingest
        .arg("-a")
        .arg(&server.socket)
        .args(["content", "ingest", "the-ref"])
        .stdin(input)
        .kill_on_drop(true);
    let output = ingest.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(ctr(&server, &["content", "ls"]).await.unwrap().contains(&digest));
    let mut get = Command::new(CTR);
    get.arg("-a")
        .arg(&server.socket)
        .args(["content", "get", &digest])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    assert!(get.output().await.unwrap().stdout == bytes);
    ctr(&server, &["content", "label", &digest, "a=b"]).await;
    assert!(ctr(&server, &["content", "ls"]).await.unwrap().contains("a=b"));
    ctr(&server, &["content", "rm", &digest]).await;
    assert!(!ctr(&server, &["content", "ls"]).await.unwrap().contains(&digest));

    let snapshots =
        |arguments: &[&'static str]| [&["snapshots", "--snapshotter", "memory"], arguments].concat();
    ctr(&server, &snapshots(&["prepare", "a"])).await;
    ctr(&server, &snapshots(&["commit", "layer", "a"])).await;
    let listed = ctr(&server, &snapshots(&["ls"])).await.unwrap();
    assert!(listed.lines().any(|line| line.split_whitespace().eq(["layer", "Committed"])), "{listed}");
    server.stop().await;
}
