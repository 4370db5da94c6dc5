use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use corten_api::{
    containerd::{
        events::{TaskExit, TaskStart},
        services::events::ttrpc::v1::ForwardRequest,
    },
    ttrpc::{method, service},
};
use corten_types::Error;
use prost::Message;
use ttrpc::asynchronous::Server;

use super::{Destination, EVENTS_SERVICE, MAX_QUEUED_EVENTS, Publisher};
use crate::reaper::Reaper;

type Seen = Arc<Mutex<Vec<(String, u32)>>>;

/// A daemon that refuses the first `refusals` events it is sent and keeps the others.
async fn daemon(socket: &Path, seen: &Seen, refusals: usize) -> Server {
    let (seen, refused) = (seen.clone(), Mutex::new(0));
    let forward = method(move |_, request: ForwardRequest| {
        let mut refused = refused.lock().unwrap();
        let refuse = *refused < refusals;
        *refused += 1;
        let envelope = request.envelope.unwrap();
        assert_eq!(envelope.namespace, "default");
        let event = envelope.event.unwrap();
        assert!(event.type_url.starts_with("containerd.events.Task"), "{}", event.type_url);
        if !refuse {
            let pid = TaskStart::decode(event.value.as_slice()).map_or(0, |start| start.pid);
            seen.lock().unwrap().push((envelope.topic, pid));
        }
        async move { if refuse { Err(Error::invalid_argument("no")) } else { Ok(()) } }
    });
    let mut server = Server::new()
        .bind(&format!("unix://{}", socket.display()))
        .unwrap()
        .register_service(service(EVENTS_SERVICE, [("Forward", forward)]));
    server.start().await.unwrap();
    server
}

fn start(publisher: &Publisher, pid: u32) {
    publisher.publish(&TaskStart { container_id: "one".into(), pid });
}

fn run(publisher: &Arc<Publisher>) {
    let publisher = publisher.clone();
    tokio::spawn(async move { publisher.run(Arc::default()).await });
}

#[tokio::test]
async fn events_wait_for_the_daemon_and_come_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("events.sock");
    let publisher = Publisher::new("default", Destination::Ttrpc(socket.display().to_string()));
    run(&publisher);
    for pid in 0..5 {
        start(&publisher, pid);
    }
    let seen = Seen::default();
    let mut first = daemon(&socket, &seen, 0).await;
    publisher.flush(Duration::from_secs(60)).await;
    assert_eq!(seen.lock().unwrap().iter().map(|event| event.1).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);

    // A daemon that was restarted gets what happened meanwhile.
    first.shutdown().await.unwrap();
    drop(first);
    std::fs::remove_file(&socket).unwrap();
    start(&publisher, 5);
    start(&publisher, 6);
    let _second = daemon(&socket, &seen, 0).await;
    publisher.flush(Duration::from_secs(60)).await;
    let pids: Vec<u32> = seen.lock().unwrap().iter().map(|event| event.1).collect();
    assert_eq!(pids, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn an_event_that_is_refused_again_and_again_makes_way_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("events.sock");
    let seen = Seen::default();
    let _daemon = daemon(&socket, &seen, 5).await;
    let publisher = Publisher::new("default", Destination::Ttrpc(format!("unix://{}", socket.display())));
    run(&publisher);
    start(&publisher, 1);
    start(&publisher, 2);
    publisher.flush(Duration::from_secs(60)).await;
    assert_eq!(*seen.lock().unwrap(), [("/tasks/start".to_owned(), 2)]);
}

#[tokio::test]
async fn a_full_queue_gives_up_exits_last() {
    let publisher = Publisher::new("default", Destination::Ttrpc("/nonexistent".into()));
    let exit = TaskExit { container_id: "one".into(), ..TaskExit::default() };
    start(&publisher, 0);
    for pid in 1..10 {
        start(&publisher, pid);
        publisher.publish(&exit);
    }
    while publisher.lock().len() < MAX_QUEUED_EVENTS {
        publisher.publish(&exit);
    }
    let exits =
        |publisher: &Publisher| publisher.lock().iter().filter(|event| event.topic == "/tasks/exit").count();
    let before = exits(&publisher);
    for more in 1..=9 {
        publisher.publish(&exit);
        assert_eq!(publisher.lock().len(), MAX_QUEUED_EVENTS);
        assert_eq!(exits(&publisher), before + more, "a start went, no exit");
    }
    publisher.publish(&exit);
    assert_eq!(exits(&publisher), before + 9, "now only exits are left to give up");
    assert_eq!(publisher.lock().front().unwrap().topic, "/tasks/start", "what is being sent stays");
}

#[tokio::test]
async fn without_a_socket_the_publish_binary_is_run() {
    let _only = crate::reaper::tests::ONLY_REAPER.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let script = folder.path().join("publish");
    let text = format!("#!/bin/sh\necho \"$@\" >> {0}\nwc -c >> {0}\n", output.display());
    #[expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]
    std::fs::write(&script, text).unwrap();
    let mut permissions = script.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&script, permissions).unwrap();

    let destination =
        Destination::Binary { program: script.display().to_string(), address: "/run/daemon.sock".into() };
    let publisher = Publisher::new("default", destination);
    let reaper = Arc::new(Reaper::default());
    let children = crate::reaper::child_signal().unwrap();
    tokio::spawn(crate::reaper::run(reaper.clone(), children));
    tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.run(reaper).await }
    });
    start(&publisher, 7);
    publisher.flush(Duration::from_secs(60)).await;
    let text = std::fs::read_to_string(output).unwrap();
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "--address /run/daemon.sock publish --topic /tasks/start --namespace default"
    );
    assert!(lines.next().unwrap().trim().parse::<u32>().unwrap() > 10, "the event comes over standard input");
}
