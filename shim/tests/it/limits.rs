//! Figures, changed limits, and want of memory.

use corten_api::{
    containerd::{events::TaskOom, task::v3},
    io::containerd::cgroups::{v1, v2},
};
use prost::Message;
use prost_types::Any;
use serde_json::json;

use crate::{
    alone::{Scratch, Shim, unique},
    root_or_skip, until_async,
};

#[tokio::test]
async fn figures_follow_a_changed_limit() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("limit");
    scratch.write_bundle(&id, &["sleep", "1000"], false, |_| {});
    let shim = scratch.shim(&id).await;
    shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    let update = v3::UpdateTaskRequest {
        id: id.clone(),
        resources: Some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
            value: br#"{"pids":{"limit":77}}"#.to_vec(),
        }),
        ..v3::UpdateTaskRequest::default()
    };
    let _: () = shim.call("Update", &update).await.unwrap();
    // The runtime's own threads are counted until the container's program runs.
    let deadline = std::time::Instant::now() + crate::DEADLINE;
    while pids_and_memory(&shim, &id).await.0 != 1 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (current, limit, usage) = pids_and_memory(&shim, &id).await;
    assert_eq!((current, limit), (1, 77));
    assert!(usage > 0);
    shim.kill(&id, "", 9, false).await.unwrap();
    shim.wait(&id, "").await;
    shim.delete(&id, "").await.unwrap();
    scratch.finish(shim).await;
}

/// How many processes there are and may be, and how many bytes of memory are used.
async fn pids_and_memory(shim: &Shim, id: &str) -> (u64, u64, u64) {
    let stats: v3::StatsResponse = shim.call("Stats", &v3::StatsRequest { id: id.to_owned() }).await.unwrap();
    let stats = stats.stats.unwrap();
    match stats.type_url.as_str() {
        "io.containerd.cgroups.v1.Metrics" => {
            let metrics = v1::Metrics::decode(stats.value.as_slice()).unwrap();
            let pids = metrics.pids.unwrap();
            (pids.current, pids.limit, metrics.memory.unwrap().usage.unwrap().usage)
        }
        "io.containerd.cgroups.v2.Metrics" => {
            let metrics = v2::Metrics::decode(stats.value.as_slice()).unwrap();
            let pids = metrics.pids.unwrap();
            (pids.current, pids.limit, metrics.memory.unwrap().usage)
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn want_of_memory_is_told_before_the_end() {
    root_or_skip!();
    let scratch = Scratch::new().await;
    let id = unique("oom");
    let hungry = ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"];
    scratch.write_bundle(&id, &hungry, false, |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 20_971_520, "swap": 20_971_520}});
    });
    let shim = scratch.shim(&id).await;
    shim.create(&scratch.create_request(&id)).await.unwrap();
    shim.start(&id, "").await.unwrap();
    assert_eq!(shim.wait(&id, "").await, 137);
    shim.delete(&id, "").await.unwrap();
    until_async("the last event", || scratch.topics().iter().any(|topic| topic == "/tasks/delete")).await;
    let topics = scratch.topics();
    let place = |topic: &str| topics.iter().position(|seen| seen == topic).unwrap();
    assert!(place("/tasks/oom") < place("/tasks/exit"), "{topics:?}");
    let oom = &scratch.decoded("/tasks/oom", |bytes| TaskOom::decode(bytes).unwrap())[0];
    assert_eq!(oom.container_id, id);
    scratch.finish(shim).await;
}
