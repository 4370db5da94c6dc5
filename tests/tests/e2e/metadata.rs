//! Namespaces, leases, events, plugins, version.

use std::process::Stdio;

use corten_tests::eventually;

use crate::fixture::Fixture;

#[test]
fn version_and_plugins_are_told() {
    let Some(fixture) = Fixture::new() else { return };
    let version = fixture.ctr.ok(&["version"]).unwrap();
    assert!(version.contains("Server:") && version.contains("UUID:"), "{version}");
    let plugins = fixture.ctr.ok(&["plugins", "ls"]).unwrap();
    for (kind, id) in [
        ("io.containerd.content.v1", "content"),
        ("io.containerd.snapshotter.v1", "overlayfs"),
        ("io.containerd.snapshotter.v1", "native"),
        ("io.containerd.differ.v1", "walking"),
        ("io.containerd.gc.v1", "scheduler"),
        ("io.containerd.metadata.v1", "bolt"),
        ("io.containerd.runtime.v2", "task"),
    ] {
        let found = plugins.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.first() == Some(&kind) && words.get(1) == Some(&id) && words.last() == Some(&"ok")
        });
        assert!(found, "{kind} {id} is not ok in\n{plugins}");
    }
    fixture.finish();
}

#[test]
fn namespaces_are_made_labelled_and_removed_when_empty() {
    let Some(fixture) = Fixture::new() else { return };
    let ctr = &fixture.ctr;
    let name = format!("{}n", fixture.daemon.namespace());
    ctr.ok(&["namespaces", "create", &name, "colour=red"]).unwrap();
    assert!(
        ctr.ok(&["namespaces", "ls"])
            .unwrap()
            .lines()
            .any(|line| line.contains(&name) && line.contains("colour=red"))
    );
    ctr.ok(&["namespaces", "label", &name, "colour="]).unwrap();
    assert!(!ctr.ok(&["namespaces", "ls"]).unwrap().contains("colour=red"));
    let refused = ctr.refused(&["namespaces", "create", &name]).unwrap();
    assert!(refused.contains("already exists"), "{refused}");
    ctr.ok(&["namespaces", "rm", &name]).unwrap();
    let refused = ctr.refused(&["namespaces", "rm", fixture.daemon.namespace()]).unwrap();
    assert!(refused.contains("must be empty"), "{refused}");
    fixture.finish();
}

#[test]
fn a_lease_keeps_content_until_it_goes() {
    let Some(fixture) = Fixture::new() else { return };
    let ctr = &fixture.ctr;
    ctr.ok(&["leases", "create", "--id", "keep", "--expires", "1h"]).unwrap();
    assert!(ctr.ok(&["leases", "ls", "-q"]).unwrap().contains("keep"));
    let refused = ctr.refused(&["leases", "create", "--id", "keep"]).unwrap();
    assert!(refused.contains("already exists"), "{refused}");
    ctr.ok(&["leases", "delete", "--sync", "keep"]).unwrap();
    let refused = ctr.refused(&["leases", "delete", "keep"]).unwrap();
    assert!(refused.contains("not found"), "{refused}");
    fixture.finish();
}

#[test]
fn events_tell_what_happens_to_images_and_containers() {
    let Some(fixture) = Fixture::new() else { return };
    let log = fixture.daemon.path("events");
    let file = std::fs::File::create(&log).unwrap();
    let mut watcher = fixture
        .ctr
        .command(&["events"])
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let seen = || std::fs::read_to_string(&log).unwrap();
    // The subscription is there once something that happens now is seen.
    let mut number = 0;
    eventually("the subscription", || {
        number += 1;
        fixture.ctr.ok(&["images", "label", &fixture.image.name, &format!("round={number}")]).unwrap();
        seen().contains("/images/update").then_some(())
    })
    .unwrap();
    let run = fixture.run(&["--rm"], "watched", &["true"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let topics = [
        "/snapshot/prepare",
        "/containers/create",
        "/tasks/create",
        "/tasks/start",
        "/tasks/exit",
        "/tasks/delete",
        "/containers/delete",
    ];
    eventually("every event", || topics.iter().all(|topic| seen().contains(topic)).then_some(())).unwrap();
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    let text = seen();
    let at = |topic: &str| text.find(topic).unwrap();
    for pair in
        [["/tasks/create", "/tasks/start"], ["/tasks/start", "/tasks/exit"], ["/tasks/exit", "/tasks/delete"]]
    {
        assert!(at(pair[0]) < at(pair[1]), "{pair:?} in\n{text}");
    }
    fixture.finish();
}
