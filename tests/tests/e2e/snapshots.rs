//! `ctr snapshots`.

use crate::fixture::Fixture;

#[test]
fn snapshots_are_prepared_viewed_committed_and_removed() {
    for snapshotter in ["overlayfs", "native"] {
        let Some(fixture) = Fixture::quiet() else { return };
        let ctr = |words: &[&str]| {
            let mut all = vec!["snapshots", "--snapshotter", snapshotter];
            all.extend(words);
            fixture.ctr.run(&all).unwrap()
        };
        let ok = |words: &[&str]| {
            let run = ctr(words);
            assert!(run.success(), "{snapshotter} {words:?}: {}", run.stderr);
            run.stdout
        };
        let target = fixture.daemon.path("target");
        std::fs::create_dir(&target).unwrap();
        let mounts = ok(&["prepare", "-t", target.to_str().unwrap(), "first"]);
        assert!(mounts.starts_with("mount "), "{mounts}");
        assert_eq!(ok(&["mounts", target.to_str().unwrap(), "first"]), mounts);
        ok(&["commit", "base", "first"]);
        ok(&["view", "look", "base"]);
        ok(&["prepare", "second", "base"]);
        let tree = ok(&["tree"]);
        assert!(tree.contains("base") && tree.contains("second") && tree.contains("look"), "{tree}");
        let listed = ok(&["ls"]);
        assert!(
            listed.contains("Committed") && listed.contains("Active") && listed.contains("View"),
            "{listed}"
        );
        assert!(ok(&["info", "second"]).contains("\"Parent\": \"base\""));
        assert!(ok(&["usage"]).contains("base"));

        let refused = ctr(&["prepare", "second", "base"]);
        assert!(refused.stderr.contains("already exists"), "{}", refused.stderr);
        let refused = ctr(&["rm", "base"]);
        assert!(refused.stderr.contains("failed precondition"), "{}", refused.stderr);
        let refused = ctr(&["prepare", "third", "nothing"]);
        assert!(refused.stderr.contains("not found"), "{}", refused.stderr);
        let refused = ctr(&["commit", "looked", "look"]);
        assert!(!refused.success());
        ok(&["rm", "look"]);
        ok(&["rm", "second"]);
        ok(&["rm", "base"]);
        fixture.finish();
    }
}

#[test]
fn a_container_s_changes_are_a_layer_that_tar_reads() {
    let Some(fixture) = Fixture::new() else { return };
    let run = fixture.run(&[], "changed", &["sh", "-c", "echo new > /etc/new; rm /etc/motd; mkdir /dir"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = fixture.ctr.command(&["snapshots", "diff", "changed"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let layer = fixture.daemon.path("layer.tar.gz");
    std::fs::write(&layer, &run.stdout).unwrap();
    let names = std::process::Command::new("tar").arg("-tzf").arg(&layer).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    let names: Vec<_> = names.lines().collect();
    assert!(
        names.contains(&"etc/new") && names.contains(&"etc/.wh.motd") && names.contains(&"dir/"),
        "{names:?}"
    );
    fixture.ctr.ok(&["tasks", "delete", "changed"]).ok();
    fixture.ctr.ok(&["containers", "delete", "changed"]).unwrap();
    fixture.finish();
}
