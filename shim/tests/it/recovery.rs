//! Daemons that go and come back.

use crate::{
    alone::{Scratch, unique},
    root_or_skip, until_async,
};

#[tokio::test]
async fn an_end_that_no_daemon_heard_of_is_told_to_the_next_one() {
    root_or_skip!();
    let mut scratch = Scratch::new().await;
    let id = unique("restart");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    let address = shim.address.clone();
    shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    until_async("the start", || scratch.starts().len() == 1).await;
    scratch.stop_events().await;
    shim.kill(&id, "", 9, false).await.unwrap();
    assert_eq!(shim.wait(&id, "").await, 137);
    drop(shim);
    assert!(scratch.exits().is_empty());
    scratch.serve_events().await;
    until_async("the exit", || scratch.exits().len() == 1).await;
    assert_eq!(scratch.exits()[0].exit_status, 137);
    let shim = scratch.connect(&address, "containerd.task.v2.Task").await;
    assert_eq!(shim.wait(&id, "").await, 137, "a new wait returns at once");
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}
