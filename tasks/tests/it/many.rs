//! Many tasks at once.

use crate::{Shim, daemon::Daemon, with_both_shims};

with_both_shims!(twenty_containers_started_at_once_each_tell_their_exit_code);

async fn twenty_containers_started_at_once_each_tell_their_exit_code(shim: Shim) {
    let daemon = Daemon::start(shim).await;
    let (tasks, namespace) = (daemon.tasks(), &daemon.namespace);
    let run_one = |number: u32| {
        let daemon = &daemon;
        async move {
            let (id, script) = (format!("c{number}"), format!("exit {number}"));
            daemon.run(&id, &["/bin/sh", "-c", &script]).await;
            assert_eq!(tasks.wait(namespace, &id, "").await.unwrap().status, number);
            id
        }
    };
    let ids = futures::future::join_all((0..20).map(run_one)).await;
    assert_eq!(tasks.list(namespace).await.len(), 20);
    for (number, id) in (0..20).zip(&ids) {
        assert_eq!(daemon.exit_of(id).await.exit_status, number);
    }
    let deletions = ids.iter().map(|id| tasks.delete(namespace, id));
    for (number, deleted) in (0..20).zip(futures::future::join_all(deletions).await) {
        assert_eq!(deleted.unwrap().status, number);
    }
    daemon.finish().await;
}
