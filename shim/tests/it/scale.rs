//! Many at once.

use crate::{
    alone::{Scratch, unique},
    bundle::process,
    leaks, root_or_skip, until_async,
};

#[tokio::test]
async fn two_hundred_execs_end_as_they_should_and_leave_nothing_open() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("many");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    let open = leaks::open_descriptors(shim.pid);
    let log = scratch.path().join("log");
    let uri = format!("file://{}", log.display());
    let mut running = tokio::task::JoinSet::new();
    for number in 0_u32..200 {
        let (shim, id, uri) = (shim.clone(), id.clone(), uri.clone());
        running.spawn(async move {
            let exec = format!("exec-{number}");
            let code = number % 100;
            let script = format!("echo {number}; exit {code}");
            shim.exec(&id, &exec, &process(&["sh", "-c", &script], false), &uri).await.unwrap();
            shim.start(&id, &exec).await.unwrap();
            assert_eq!(shim.wait(&id, &exec).await, code);
            assert_eq!(shim.delete(&id, &exec).await.unwrap().exit_status, code);
        });
        // As many at once as a busy node has.
        if running.len() >= 10 {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    let mut numbers: Vec<u32> =
        std::fs::read_to_string(&log).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..200));
    until_async("the descriptors", || leaks::open_descriptors(shim.pid) <= open).await;
    until_async("the exits", || scratch.exits().len() == 200).await;
    shim.kill(&id, "", 9, false).await.unwrap();
    shim.wait(&id, "").await;
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}
