//! Bad input: a clear error of the right class, and nothing changed.

use std::process::Command;

use corten_tests::{Daemon, DaemonOptions, Image, root_or_skip};

use crate::fixture::Fixture;

#[test]
fn malformed_names_filters_and_labels_are_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let ctr = &fixture.ctr;
    let invalid = |words: &[&str]| {
        let refused = ctr.refused(words).unwrap();
        assert!(refused.contains("invalid argument"), "{words:?}: {refused}");
    };
    let refused = ctr.in_namespace("a..b").refused(&["images", "ls"]).unwrap();
    assert!(refused.contains("invalid argument"), "{refused}");
    invalid(&["images", "ls", "name~="]);
    invalid(&["content", "ls", "=="]);
    invalid(&["containers", "create", &fixture.image.name, "bad-"]);
    let long = format!("long={}", "x".repeat(4100));
    invalid(&["images", "label", &fixture.image.name, &long]);
    invalid(&["namespaces", "create", "bad-"]);
    let refused = ctr.refused(&["snapshots", "--snapshotter", "nothing", "ls"]).unwrap();
    assert!(refused.contains("snapshotter not loaded: nothing"), "{refused}");
    let refused = ctr.refused(&["images", "tag", "localhost/none:1", "localhost/other:1"]).unwrap();
    assert!(refused.contains("not found"), "{refused}");
    fixture.finish();
}

#[test]
fn a_layer_that_is_truncated_or_corrupt_is_not_unpacked() {
    let Some(fixture) = Fixture::new() else { return };
    let before = fixture.ctr.ok(&["snapshots", "ls"]).unwrap();
    // A layer whose bytes are a broken gzip stream, under a digest that fits them.
    for damage in ["truncated", "corrupt"] {
        let archive = broken_image(&fixture, damage);
        let refused = fixture.ctr.refused(&["images", "import", archive.to_str().unwrap()]).unwrap();
        assert!(refused.contains("failed to extract layer"), "{damage}: {refused}");
    }
    let after = fixture.ctr.ok(&["snapshots", "ls"]).unwrap();
    assert_eq!(after.lines().count(), before.lines().count(), "{after}");
    fixture.finish();
}

/// Rewrites a good image: its layer is cut or changed in the middle, and every digest above is made to fit.
fn broken_image(fixture: &Fixture, damage: &str) -> std::path::PathBuf {
    let good = Image::bulk(fixture.daemon.scratch(), &format!("localhost/{damage}:1"), 4, 100_000).unwrap();
    let folder = fixture.daemon.path(damage);
    std::fs::create_dir(&folder).unwrap();
    let script = format!(
        r#"
import hashlib, json, os, tarfile
tarfile.open({archive:?}).extractall({folder:?})
blobs = os.path.join({folder:?}, "blobs/sha256")
def put(data):
    name = hashlib.sha256(data).hexdigest()
    open(os.path.join(blobs, name), "wb").write(data)
    return "sha256:" + name, len(data)
index = json.load(open(os.path.join({folder:?}, "index.json")))
entry = index["manifests"][0]
manifest = json.load(open(os.path.join(blobs, entry["digest"][7:])))
layer = manifest["layers"][0]
data = bytearray(open(os.path.join(blobs, layer["digest"][7:]), "rb").read())
if {damage:?} == "truncated":
    data = data[:len(data) // 2]
else:
    for position in range(len(data) // 2, len(data) // 2 + 64):
        data[position] ^= 0xff
layer["digest"], layer["size"] = put(bytes(data))
entry["digest"], entry["size"] = put(json.dumps(manifest).encode())
json.dump(index, open(os.path.join({folder:?}, "index.json"), "w"))
out = tarfile.open({output:?}, "w")
for name in sorted(os.listdir({folder:?})):
    out.add(os.path.join({folder:?}, name), name)
out.close()
"#,
        archive = good.archive.display().to_string(),
        folder = folder.display().to_string(),
        output = format!("{}.tar", folder.display()),
    );
    let status = Command::new("python3").arg("-c").arg(script).status().unwrap();
    assert!(status.success());
    folder.with_extension("tar")
}

#[test]
fn a_runtime_that_is_not_installed_and_a_spec_that_runc_refuses_are_named() {
    let Some(fixture) = Fixture::new() else { return };
    let run = fixture.run(&["--rm", "--runtime", "io.containerd.nothing.v9"], "none", &["true"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("containerd-shim-nothing-v9"), "{}", run.stderr);
    let run = fixture.run(&["--rm", "--runc-binary", "/no/such/runc"], "norunc", &["true"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("/no/such/runc"), "{}", run.stderr);
    let run = fixture.run(&["--rm"], "noprogram", &["/no/such/program"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("OCI runtime create failed"), "{}", run.stderr);
    assert!(run.stderr.contains("/no/such/program"), "{}", run.stderr);
    let run = fixture.run(&["--rm", "--cwd", "relative"], "badcwd", &["true"]);
    assert_ne!(run.code, 0, "{}", run.stderr);
    assert_eq!(fixture.ctr.ok(&["tasks", "ls", "-q"]).unwrap(), "");
    fixture.finish();
}

#[test]
fn a_second_daemon_on_the_same_root_or_socket_is_refused_in_a_sentence() {
    if !root_or_skip() || peer() {
        return;
    }
    let daemon = Daemon::start().unwrap();
    let output = daemon.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains(&daemon.pid().to_string()) && text.contains("root"),
        "it says who holds it: {text}"
    );

    let other = Daemon::prepare(DaemonOptions::default()).unwrap();
    let mut command = other.command();
    command.arg("--address").arg(daemon.address());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(daemon.ctr().ok(&["version"]).is_ok(), "the first one still answers");
    drop(other);
    daemon.finish().unwrap();
}

#[test]
fn a_configuration_with_a_syntax_error_is_named_with_its_line() {
    if !root_or_skip() || peer() {
        return;
    }
    let daemon =
        Daemon::prepare(DaemonOptions { configuration: "[debug\n".to_owned(), ..DaemonOptions::default() })
            .unwrap();
    let output = daemon.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("config.toml, line 5"), "{text}");
}

fn peer() -> bool {
    std::env::var_os("CORTEN_TEST_PEER").is_some()
}
