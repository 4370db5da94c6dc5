use std::process::{Child, Command};

use super::*;
use crate::bundle::{Layout, replace_file};

fn sleeper() -> Child {
    Command::new("/bin/sleep").arg("60").spawn().unwrap()
}

fn bundle_with(pid: &str) -> (tempfile::TempDir, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Layout::new(folder.path(), folder.path()).bundle(&"default".parse().unwrap(), "web");
    fs::create_dir_all(bundle.path()).unwrap();
    replace_file(&bundle.file("init.pid"), pid.as_bytes(), 0o600).unwrap();
    (folder, bundle)
}

#[test]
fn the_process_of_the_bundle_is_killed() {
    let mut child = sleeper();
    let (_folder, bundle) = bundle_with(&format!("{}\n", child.id()));
    kill(&bundle).unwrap();
    assert!(!child.wait().unwrap().success());
    kill(&bundle).unwrap();
}

#[test]
fn a_process_that_has_the_pid_later_is_spared() {
    let mut child = sleeper();
    let (_folder, bundle) = bundle_with(&child.id().to_string());
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(bundle.file("init.pid")).unwrap().set_modified(long_ago).unwrap();
    kill(&bundle).unwrap();
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_bundle_without_a_process_is_no_error() {
    for text in ["", "x", "0", "-1"] {
        kill(&bundle_with(text).1).unwrap();
    }
}
